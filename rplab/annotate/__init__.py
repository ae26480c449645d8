"""Text models that read finished rows: judges that list flaws, and a translator of lines.

To add a rubric: copy `rubrics/flaws.yaml`, change its flaws, and give its name (or path) as `rubric`.
"""
