"""Text models behind one protocol: the embedded grammar, OpenAI-compatible servers, servers of our own, local models.

To add a backend: implement `ChatBackend` (`base.py`), add its settings to the union in `config.py`, and name its opener
in `open.py`. Settings that change speed or cost but no answer are marked `RunOnly`, so that they stay out of stage keys.
"""
