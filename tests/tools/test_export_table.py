"""The table of exports has a row for every system, and tells why there is no graph."""

import pytest

from avser.models.systems import SYSTEMS
from tools.export_table import cases, main


def test_every_system_has_a_row():
    assert {name for name, _, _ in cases(["av_roi", *SYSTEMS])} == {"av_roi", *SYSTEMS}


def test_a_system_without_a_graph_tells_why(capsys):
    assert main(["macnn_area"]) == 0
    assert "it cuts each clip into segments" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_system_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "take av_roi, " in capsys.readouterr().err
