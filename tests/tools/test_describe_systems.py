"""docs/SYSTEMS.md: a row a system, with the number of parameters that it has."""

import re

import pytest

from avser.config import load_config
from avser.models.build import build_model
from avser.models.systems import SYSTEMS
from tests.conftest import PROJECT
from tools.describe_systems import EMOTIONS, MEASURED_AS

NUM_MEMBERS = 10  # of the ensembles; two of them are built, and two alike have twice the parameters of one
ROW = re.compile(r"^\| \[(\w+)\]\(#\w+\) \|[^|]*\|[^|]*\| ([\d,]+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def documented():
    text = (PROJECT / "docs" / "SYSTEMS.md").read_text(encoding="utf-8")
    return {name: int(count.replace(",", "")) for name, count in ROW.findall(text)}


def test_every_system_has_a_row(documented):
    assert set(documented) == {"av_roi", *SYSTEMS}


@pytest.mark.parametrize("name", ["av_roi", *SYSTEMS])
def test_the_parameters_are_those_of_the_configuration(name, documented):
    model = build_model(
        load_config([name, *MEASURED_AS.get(name, [])]).model, EMOTIONS, sample_rate_hz=16000, pretrained=False
    )
    count = sum(p.numel() for p in model.parameters())
    assert documented[name] == (count * NUM_MEMBERS // 2 if name in MEASURED_AS else count)
