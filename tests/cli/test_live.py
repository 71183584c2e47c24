"""`avser live` as a person meets it; a file plays the part of camera and microphone."""

import json
import sys
import time
from pathlib import Path

import pytest

from avser.cli import main as door
from avser.inference import load_model, predict
from tests.live.conftest import save_causal_run


@pytest.fixture(scope="module")
def causal_run(tiny_corpus) -> Path:
    return save_causal_run(tiny_corpus, "causal_door")


@pytest.fixture(scope="module")
def clip(tiny_corpus) -> Path:
    return tiny_corpus / "media" / "s01_fear_01.mp4"


@pytest.fixture
def live(monkeypatch, capsys):
    """Calls `avser live ARGUMENTS` as the entry point does; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avser", "live", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            door.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(left.value.code or 0), out, err

    return call


def test_the_last_answer_is_that_of_predict(live, causal_run, clip) -> None:
    code, out, err = live(causal_run, "--file", clip, "--pace", "0", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    model = load_model(causal_run)
    answer = predict(model, clip)
    assert code == 0
    assert lines[-1]["emotion"] == answer.emotion
    assert list(lines[-1]["probabilities"].values()) == pytest.approx(list(answer.probabilities.values()), abs=1e-4)
    assert lines[0]["time_s"] == pytest.approx(0.1)
    assert lines[-1]["frames"] > 0 == lines[-1]["dropped_frames"]
    assert set(lines[-1]["regions"]) == {"audio", "video"}
    assert f"{len(lines)} answers" in err


def test_at_its_own_pace_a_file_takes_as_long_as_it_is(live, causal_run, clip) -> None:
    begun = time.perf_counter()
    code, out, err = live(causal_run, "--file", clip, "--chunk", "0.25")
    assert time.perf_counter() - begun > 2.0
    assert code == 0
    assert "salience" in out
    assert "voice" in out
    assert "latency" in err


def test_a_model_that_is_not_causal_is_refused_or_reads_a_window(live, tiny_ablation, clip) -> None:
    code, out, err = live(tiny_ablation / "fused", "--file", clip, "--pace", "0", "--json")
    assert (code, out) == (2, "")
    assert "--window 4" in err
    code, out, err = live(
        tiny_ablation / "fused", "--file", clip, "--pace", "0", "--json", "--window", "1.5", "--chunk", "0.5"
    )
    assert code == 0
    assert "reads the last 1.5 s anew" in err
    assert json.loads(out.splitlines()[-1])["emotion"]


@pytest.mark.parametrize(
    ("arguments", "code", "advice"),
    [
        (["--file", "none.mp4"], 1, "no such file"),
        (["--camera", "63"], 1, "--without video"),
        (["--without", "video"], 2, "microphone"),
        (["--without", "smell"], 2, "take audio or video"),
        (["--without", "audio", "--without", "video"], 2, "leave one of them in"),
        (["--chunk", "0"], 2, "from 0.01 to 10"),
        (["--file", "x.mp4", "--pace", "-1"], 2, "1 is real time"),
    ],
)
def test_faults_are_told_with_advice(live, causal_run, arguments, code, advice) -> None:
    got, out, err = live(causal_run, *arguments)
    assert (got, out.strip()) in ((code, ""), (1, ""))
    assert advice in err
