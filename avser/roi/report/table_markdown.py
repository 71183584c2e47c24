"""Tables of a report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from avser.roi.report.tables import ReportTable, format_cell


def tables_markdown(tables: Sequence[ReportTable], *, level: int = 2) -> str:
    """Heading, table, caption and note of each, with empty lines between; headings begin with `level` signs."""
    parts: list[str] = []
    for table in tables:
        rows = [[format_cell(cell) for cell in row] for row in table.rows]
        rule = ["---", *["---:"] * (len(table.columns) - 1)]
        lines = [" | ".join(map(escape_cell, texts)) for texts in (table.columns, rule, *rows)]
        parts += [f"{'#' * level} {table.title}", "\n".join(f"| {line} |" for line in lines), table.caption, table.note]
    return "\n\n".join(filter(None, parts)) + "\n"


def escape_cell(text: str) -> str:
    """A text that neither ends its cell nor its line."""
    return text.replace("|", "\\|").replace("\n", " ")
