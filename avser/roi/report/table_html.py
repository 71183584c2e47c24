"""Tables and figures as one page of HTML that needs no other file; texts are escaped wherever they come from."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import jinja2
from matplotlib import rc_context
from matplotlib.figure import Figure

from avser.roi.report.plots import FOR_PAPERS
from avser.roi.report.table_latex import is_text_column
from avser.roi.report.tables import ReportTable, format_cell

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 78rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
thead { border-top: 2px solid #222; border-bottom: 1px solid #222 }
tbody { border-bottom: 2px solid #222 }
th, td { padding: .25rem .55rem; text-align: right; white-space: nowrap }
th { vertical-align: bottom; font-weight: 600 }
th.text, td.text { text-align: left }
tbody tr:hover { background: #f3f3f3 }
p { max-width: 60rem } .small { color: #555; font-size: .87rem }
img { max-width: 100%; height: auto }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if command %}<p>Made by <code>{{ command }}</code></p>{% endif %}
{% for figure in figures %}<p><img src="data:image/svg+xml;base64,{{ figure.data }}" alt="{{ figure.words }}"></p>
{% endfor %}
{% for table in tables %}<h2>{{ table.title }}</h2>
<div class="wide"><table>
<thead><tr>{% for name in table.columns %}<th{% if table.is_text[loop.index0] %} class="text"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>{% for cell in row %}<td{% if table.is_text[loop.index0] %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% for remark in table.remarks %}<p class="small">{{ remark }}</p>
{% endfor %}{% endfor %}
{% if failures %}<h2>failed</h2>
<ul>{% for failure in failures %}<li>{{ failure }}</li>{% endfor %}</ul>{% endif %}
</body>
</html>
"""  # noqa: E501


def tables_html(
    title: str,
    tables: Sequence[ReportTable],
    *,
    figures: Sequence[tuple[str, Figure]] = (),
    command: str = "",
    failures: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        figures: words for those who do not see it, and the figure; drawn as vectors.
        command: what made it.
        failures: a sentence each.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE).render(
        title=title,
        command=command,
        failures=failures,
        figures=[{"words": words, "data": _svg(figure)} for words, figure in figures],
        tables=[
            {
                "title": table.title,
                "columns": table.columns,
                "rows": [[format_cell(cell) for cell in row] for row in table.rows],
                "is_text": [is_text_column(table, i) for i in range(len(table.columns))],
                "remarks": list(filter(None, (table.caption, table.note))),
            }
            for table in tables
        ],
    )


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    with rc_context(FOR_PAPERS):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return base64.b64encode(buffer.getvalue()).decode()
