"""The door to the leaderboard: what it takes, what it prints, how it exits; and what papers report."""

import json
import os

import pytest
import yaml

from avser.errors import ConfigError
from avser.experiments.leaderboard.tables import find_place, insert_board
from tools.leaderboard import main
from tools.published import PUBLISHED


@pytest.fixture
def corpus(tiny_corpus, tmp_path) -> str:
    data = {"manifest": str(tiny_corpus / "manifest.csv"), "cache": str(tiny_corpus / "cache")}
    media = json.loads((tiny_corpus / "cache" / "cache.json").read_text())["settings"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"data": data, "media": media}))
    return str(path)


def test_one_command_leaves_a_board_and_says_what_failed(corpus, tmp_path, capsys):
    (tmp_path / "v.yaml").write_text('av_roi: {broken: ["model.audio.backbone.weights=no.safetensors"]}')
    small = ["model.modalities=[audio]", "training.epochs=1", "model.audio.dim=8"]
    backbone = "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}"
    arguments = ["av_roi", "av_roi:broken", "--corpus", corpus, "--protocol", "speaker_holdout", "--folds", "all"]
    arguments += ["--seeds", "3", "--out", str(tmp_path / "out"), "--variants", str(tmp_path / "v.yaml")]
    arguments += ["--compare", "av_roi", "av_roi", "--set", *small, "--set", backbone]
    page = tmp_path / "page.md"
    page.write_text("# Mine\n<!-- board:out -->\nformer\n<!-- end:out -->\nrest\n")
    arguments += ["--page", str(page)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    for words in ("strict: ", "folds 0, seeds 3", "What they cost", "av_roi minus av_roi", "leaderboard.md"):
        assert words in printed.out
    assert "failed: av_roi-broken/fold0-seed3: no weight file" in printed.err
    assert "[2/2] av_roi-broken/fold0-seed3: FAILED" in printed.err
    stored = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert stored["command"].startswith("python -m tools.leaderboard av_roi av_roi:broken --corpus ")
    assert (tmp_path / "out" / "leaderboard.csv").is_file()
    assert page.read_text().startswith("# Mine\n<!-- board:out -->\n\n## tiny, speaker_holdout\n")
    assert page.read_text().endswith("\n\n<!-- end:out -->\nrest\n")
    assert "former" not in page.read_text()


@pytest.mark.parametrize(
    "wrong",
    [["av_roy"], ["av_roi", "--seeds", "0,0"], ["av_roi", "--folds", "-1"], ["av_roi:x"], ["av_roi", "--jobs", "0"]],
)
def test_wrong_usage_exits_with_two(wrong, corpus, tmp_path):
    rest = ["--corpus", corpus, "--protocol", "speaker_holdout", "--out", str(tmp_path / "out")]
    try:
        code = main([*wrong, *rest])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert not (tmp_path / "out").exists()


def test_every_published_number_says_where_it_is_from():
    for system, numbers in PUBLISHED.items():
        assert numbers, system
        for number in numbers:
            assert number.paper
            assert number.corpus
            assert number.protocol
            assert number.metric in ("UAR", "WA", "accuracy")
            assert number.value is None or 0 < number.value < 100


BEGIN, END = "<!-- board:out -->", "<!-- end:out -->"


@pytest.mark.parametrize(
    "text",
    [
        "# Mine\n",
        f"{BEGIN}\n",
        f"{END}\n",
        f"{END}\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\n{END}\n",
        f"{BEGIN}\n{END}\n{END}\n",
        f"{BEGIN}\n<!-- board:other -->\n<!-- end:other -->\n{END}\n",
    ],
)
def test_a_page_without_room_for_the_board_is_left_alone(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ConfigError, match=f"write {BEGIN} and {END} once each"):
        insert_board(page, "out", "# Board")
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such page"),
        (f"{END}{BEGIN}".encode(), "has no place for the board"),
        (b"\xff" + f"{BEGIN}{END}".encode(), "not readable as text"),
    ],
)
def test_a_page_that_cannot_take_the_board_stops_before_training(content, words, corpus, tmp_path, capsys):
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)
    rest = ["--corpus", corpus, "--protocol", "speaker_holdout", "--out", str(tmp_path / "out"), "--page", str(page)]
    assert main(["av_roi", *rest]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_page_that_must_not_be_written_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    page.chmod(0o444)
    with pytest.raises(ConfigError, match="may not be written"):
        find_place(page, "out")
