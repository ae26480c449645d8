"""A data card as one static HTML page: no server, no network, no script. Knows the Markdown that the card uses."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_PAGE = """<!doctype html>
<html lang="ko"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body{{font:16px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}} td,th{{border:1px solid #8886;padding:.2rem .7rem}} td+td,th+th{{text-align:right}}
pre{{overflow:auto;padding:.7rem;background:#8881;border-radius:.4rem}}
@media(prefers-color-scheme:dark){{body{{background:#16181c;color:#ddd}}}}
</style></head><body>
{body}
</body></html>
"""


def render_html(card: str) -> str:
    """Return the page of a Markdown card; its front matter is left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "Data set")
    return _PAGE.format(title=html.escape(title), body="\n".join(_blocks(text)))


def _blocks(text: str) -> Iterator[str]:
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("```"):
            yield "<pre>" + html.escape("\n".join(_until_fence(lines))) + "</pre>"
        elif heading := re.match(r"(#{1,6}) (.*)", line):
            level = len(heading[1])
            yield f"<h{level}>{html.escape(heading[2])}</h{level}>"
        elif line.startswith("|"):
            rows = [line, *_until_blank(lines)]
            yield "<table>" + "".join(_row(row, "th" if at == 0 else "td") for at, row in enumerate(rows) if at != 1) + "</table>"
        elif line.strip():
            yield f"<p>{html.escape(line)}</p>"


def _until_fence(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("```"):
            return
        yield line


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def _row(line: str, cell: str) -> str:
    return "<tr>" + "".join(f"<{cell}>{html.escape(text.strip())}</{cell}>" for text in line.strip("|").split("|")) + "</tr>"
