"""Tables as LaTeX and as a page of HTML: what they hold is printed as it stands, and nothing of it is obeyed."""

import re

import pytest

from avser.evaluation.statistics import Interval
from avser.roi.report.table_html import tables_html
from avser.roi.report.table_latex import escape_latex, is_text_column, tables_latex
from avser.roi.report.tables import ReportTable

NASTY = r"50 % & \input{x} $y_1$ #2 ~ {z} ^"
TABLE = ReportTable(
    "Title",
    ["name", "kind", "value", "minus reference"],
    [["a_b", "late_average", Interval(62.1, 58.0, 66.2), "reference"], [NASTY, "concat", None, "-1.0 [-2.0, 0.1]"],
     ["<script>alert(1)</script>", None, 3, "0.5 [0.1, 0.9]"]],
    "100 % of it",
    "p < 0.001",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50 %", r"a\_b \& 50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("< 0.001", "$<$ 0.001"),
        ("2 \N{PLUS-MINUS SIGN} 1 \N{EN DASH}", r"2 $\pm$ 1 --"),
        ("2^G ~ #1 $x$", r"2\textasciicircum{}G \textasciitilde{} \#1 \$x\$"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_prints_a_text_as_it_stands(text, expected):
    assert escape_latex(text) == expected


def test_a_latex_table_has_as_many_cells_a_row_as_columns():
    latex = tables_latex([TABLE])
    body = latex.split("\\toprule\n")[1].split("\\bottomrule")[0].replace("\\midrule\n", "")
    rows = body.strip().splitlines()
    assert len(rows) == 4
    assert all(row.endswith(r" \\") and len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert r"\begin{tabular}{llrr}" in latex
    assert "62.1 [58.0, 66.2]" in latex
    assert r"\caption{Title. 100 \% of it}" in latex
    assert r"p $<$ 0.001" in latex


def test_words_stand_left_and_numbers_right():
    assert [is_text_column(TABLE, i) for i in range(4)] == [True, True, False, False]


def test_the_page_escapes_everything():
    page = tables_html("<i>", [TABLE], command='x "<b>"', failures=["run: <u>"])
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search("<(i|b|u)>", page)
    assert "62.1 [58.0, 66.2]" in page
    assert "failed" in page
    assert "failed" not in tables_html("t", [TABLE])
