"""Render HTML pages that need no other file, the page of a graph, and findings as a table. No I/O.

A page loads nothing and runs no script; its policy (Content-Security-Policy) forbids both.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tritonforge.escaping import escape_html
from tritonforge.graph.diagram import Graph
from tritonforge.graph.svg import render_svg
from tritonforge.validation.findings import Finding

__all__ = ["render_findings_table", "render_html", "render_notebook_html", "render_page"]

_STYLE = """\
:root{color-scheme:light dark}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;background:#fff;color:#1f2328}
figure{margin:0;overflow:auto}
table{border-collapse:collapse;margin-top:1rem}
th,td{border:1px solid #afb8c1;padding:.25rem .5rem;text-align:left;vertical-align:top}
td{overflow-wrap:anywhere}
td:nth-child(4){min-width:12em}
td:nth-child(-n+3){white-space:nowrap;overflow-wrap:normal}
tr:target{outline:3px solid #0969da}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#484f58}}"""


def render_html(graph: Graph, *, title: str) -> str:
    """Return a graph as an HTML page: the picture, whose badges link to the findings in the table below it."""
    picture = render_svg(graph, title=title, in_page=True)
    return render_page(
        f"<figure>\n{picture}</figure>\n{render_findings_table(graph.findings)}", title=title, style=_STYLE
    )


def render_page(body: str, *, title: str, style: str) -> str:
    """Return an HTML page with a heading. ``body`` and ``style`` are HTML and CSS; ``title`` is escaped here."""
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape_html(title)}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{escape_html(title)}</h1>
{body}
</body>
</html>
"""


def render_findings_table(findings: Sequence[Finding]) -> str:
    """Return findings as a table, with the numbers that the badges have; a sentence for an empty list."""
    if not findings:
        return "<p>No findings.</p>"
    rows = []
    for number, finding in enumerate(findings, 1):
        place = f"{finding.path}{f':{finding.line}' if finding.line else ''}"
        texts = [str(number), finding.code, finding.severity, place, finding.message, finding.help]
        cells = "".join(f"<td>{escape_html(text)}</td>" for text in texts)
        rows.append(f'<tr id="finding-{number}">{cells}</tr>')
    names = ("", "code", "severity", "place", "finding", "what to do")
    heading = "".join(f"<th>{name}</th>" for name in names)
    body = "\n".join(rows)
    return f"<table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def render_notebook_html(graph: Graph, *, title: str) -> str:
    """Return a graph for the output of a notebook's cell.

    The picture is an image, so that its styles do not reach the notebook's page.
    """
    data = base64.b64encode(render_svg(graph, title=title, in_page=True).encode()).decode()
    image = f'<img alt="{escape_html(title)}" src="data:image/svg+xml;base64,{data}">'
    return f"<div>{image}\n{render_findings_table(graph.findings)}</div>"
