"""The table of exports has a row for every system, and tells why there is no graph."""

import pytest

from avser.cli.printing import print_table
from avser.models.systems import SYSTEMS
from tools.export_table import cases, export_table, main


def test_every_system_has_a_row():
    assert {name for name, _, _ in cases(["av_roi", *SYSTEMS])} == {"av_roi", *SYSTEMS}


def test_a_system_without_a_graph_tells_why(capsys):
    assert main(["macnn_area"]) == 0
    assert "it cuts each clip into segments" in " ".join(capsys.readouterr().out.split())


def test_reasons_are_whole_and_said_once(capsys):
    why = "it " + "very " * 60 + "much so"
    table = export_table([("a", "", "", why), ("b", "voice", "1.0e-06", ""), ("c", "", "", "no"), ("d", "", "", why)])
    assert [row[2] for row in table.rows] == ["none, see 1", "1.0e-06", "none, see 2", "none, see 1"]
    assert table.note == f"1. {why}.\n2. no."
    print_table(table)
    assert why in " ".join(capsys.readouterr().out.split())


def test_a_page_takes_the_table_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- board:exports -->\nyesterday\n<!-- end:exports -->\n\nafter\n", encoding="utf-8")
    assert main(["macnn_area", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| macnn_area |  | none, see 1 |" in text
    assert "\n1. it cuts each clip into segments" in text
    assert "yesterday" not in text
    assert text.endswith("after\n")
    assert main(["macnn_area", "--page", str(tmp_path / "missing.md")]) == 2
    assert "there is no such page" in capsys.readouterr().err


def test_an_unknown_system_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "take av_roi, " in capsys.readouterr().err
