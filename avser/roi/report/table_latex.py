r"""Tables of a report as LaTeX, to be put into a paper by \input; they need the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from avser.roi.report.tables import DASH, ReportTable, format_cell

SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "\N{EN DASH}": "--",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\n": " ",
}


def tables_latex(tables: Sequence[ReportTable]) -> str:
    """One table environment each: title and caption above, the note below; text columns left, numbers right."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(map(_table, tables))


def escape_latex(text: str) -> str:
    """A text that LaTeX prints as it stands, and takes no command from."""
    return "".join(SIGNS.get(sign, sign) for sign in text)


def is_text_column(table: ReportTable, column: int) -> bool:
    """Whether a column holds words rather than numbers, intervals and p-values."""
    cells = [cell for row in table.rows if (cell := format_cell(row[column])) != DASH]
    num_words = sum(cell[:1].isalpha() or cell[:1] in "[{" for cell in cells)
    return column == 0 or 2 * num_words > len(cells)


def _table(table: ReportTable) -> str:
    sides = "".join("l" if is_text_column(table, i) else "r" for i in range(len(table.columns)))
    rows = [[format_cell(cell) for cell in row] for row in table.rows]
    header, *lines = (" & ".join(map(escape_latex, texts)) + r" \\" for texts in (table.columns, *rows))
    words = ". ".join(filter(None, (table.title.rstrip("."), table.caption)))
    note = [rf"\par\smallskip\footnotesize {escape_latex(table.note)}"] if table.note else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(words)}}}",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            header,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *note,
            r"\end{table}",
            "",
        ]
    )
