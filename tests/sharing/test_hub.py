"""A run goes to the hub and comes back the same; nothing about its speakers or its machine goes with it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from avser.config import load_config
from avser.data.cache import ClipCache
from avser.errors import AvserError, CheckpointError, ConfigError, ManifestError
from avser.inference import load_model, load_models, run_model
from avser.sharing.hub import push, write_shared
from avser.training.shared_model import SHARED_FILES

NAME = "lab/tiny"
WRITER = "hf_writer"  # a token that the stand-in takes
THREE = set(SHARED_FILES)


def logits(model, corpus: Path) -> torch.Tensor:
    clips = [ClipCache(corpus / "cache").load(clip_id) for clip_id in ("s01_fear_01", "s02_anger_01")]
    return run_model(model, clips).logits


# --- there and back ----------------------------------------------------------------------------------------------


def test_a_pushed_model_answers_as_before(logged_in, run_folder, tiny_corpus):
    shared = push(run_folder, NAME, licence="apache-2.0")
    files = logged_in.repos[NAME]["commits"][shared.revision]
    assert set(files) == THREE | {".gitattributes"}
    assert shared.place.endswith(shared.revision)
    assert logged_in.repos[NAME]["private"]
    back = load_model(NAME, "cpu")
    assert torch.equal(logits(back, tiny_corpus), logits(load_model(run_folder, "cpu"), tiny_corpus))
    assert {path.name for path in back.folder.iterdir()} == THREE
    assert list(load_models(NAME, "cpu")) == ["fused"]


def test_a_folder_of_the_same_layout_works_without_a_network(run_folder, tiny_corpus, tmp_path):
    shared = write_shared(run_folder, tmp_path / "shared", NAME)
    assert {path.name for path in (tmp_path / "shared").iterdir()} == THREE
    assert shared.place == str(tmp_path / "shared")
    back = load_model(tmp_path / "shared", "cpu")
    assert torch.equal(logits(back, tiny_corpus), logits(load_model(run_folder, "cpu"), tiny_corpus))
    assert load_config([str(tmp_path / "shared" / "config.yaml")]) == back.config


def test_a_revision_pins_the_model(logged_in, run_folder, tiny_ablation):
    first = push(run_folder, NAME).revision
    second = push(tiny_ablation / "audio", NAME).revision
    assert first != second
    assert load_model(NAME, "cpu", revision=first).modalities == ("audio", "video")
    assert load_model(f"{NAME}@{second}", "cpu").modalities == ("audio",)
    assert load_model(NAME, "cpu").modalities == ("audio",)
    push(run_folder, NAME, revision="trial")
    assert load_model(NAME, "cpu", revision="trial").modalities == ("audio", "video")
    assert load_model(NAME, "cpu").modalities == ("audio",)


def test_what_was_fetched_is_kept_for_a_time_without_network(logged_in, run_folder, monkeypatch):
    push(run_folder, NAME)
    load_model(NAME, "cpu")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert load_model(NAME, "cpu").modalities == ("audio", "video")
    with pytest.raises(CheckpointError, match="could not be fetched"):
        load_model("lab/other", "cpu")


def test_only_the_three_files_are_fetched(hub, run_folder, tmp_path):
    write_shared(run_folder, tmp_path / "shared", NAME)
    files = {path.name: path.read_bytes() for path in (tmp_path / "shared").iterdir()}
    hub.add_commit(NAME, {**files, "model.pkl": b"evil", "setup.py": b"evil", "deep/model.safetensors": b"evil"})
    folder = load_model(NAME, "cpu").folder
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == THREE
    assert not [line for line in hub.asked if "evil" in line or ".pkl" in line or "deep" in line]


def test_paths_in_a_strangers_configuration_are_not_followed(hub, run_folder, tmp_path):
    from avser.training.checkpoint import load_trained, save_model

    model, config, emotions = load_trained(run_folder / "model.safetensors")
    config.media.faces.model, config.data.manifest = "/etc/passwd", "/etc/hosts"
    save_model(tmp_path / "made.safetensors", model, config, emotions)
    hub.add_commit(NAME, {"model.safetensors": (tmp_path / "made.safetensors").read_bytes()})
    found = load_model(NAME, "cpu").config
    assert (found.media.faces.model, found.data.manifest) == (None, "")


# --- what does not go along --------------------------------------------------------------------------------------


def test_no_speaker_clip_or_path_is_handed_on(run_folder, tiny_corpus, tmp_path):
    write_shared(run_folder, tmp_path / "shared", NAME)
    with safe_open(tmp_path / "shared" / "model.safetensors", "pt") as file:
        description = json.dumps(file.metadata())
    texts = [description, *((tmp_path / "shared" / name).read_text() for name in ("config.yaml", "README.md"))]
    with (tiny_corpus / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    for text in texts:
        assert str(tiny_corpus) not in text
        assert str(Path.home()) not in text
        assert "/tmp" not in text
        words = set(re.findall(r"[\w.-]*\w", text))
        assert words.isdisjoint({row["clip_id"] for row in rows} | {row["speaker"] for row in rows})
    assert str(tiny_corpus) in (run_folder / "config.yaml").read_text()  # there was something to leave out


def test_a_folder_with_other_things_is_left_alone(run_folder, tmp_path):
    (tmp_path / "predictions.csv").write_text("clip_id,speaker\n")
    with pytest.raises(ConfigError, match=r"holds predictions\.csv; give a new folder"):
        write_shared(run_folder, tmp_path, NAME)
    assert not (tmp_path / "README.md").exists()


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_without_a_token_it_is_said_how_to_get_one(hub, run_folder):
    with pytest.raises(ConfigError, match=r"hf auth login.*HF_TOKEN"):
        push(run_folder, NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("token", "advice"), [("hf_wrong", "does not take the token"), ("hf_reader", "may not write to lab")]
)
def test_a_token_that_does_not_do_is_told_apart(hub, run_folder, monkeypatch, token, advice):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AvserError, match=advice):
        push(run_folder, NAME)
    assert hub.repos == {}


def test_a_hub_that_cannot_be_reached_is_no_traceback(logged_in, run_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AvserError, match=r"could not be reached \(ConnectError: .*--folder DIR"):
        push(run_folder, NAME)


@pytest.mark.parametrize("name", ["tiny", "lab/", "lab/a/b", "../lab", "lab/ti ny", "https://lab/tiny"])
def test_only_org_and_name_are_a_name(run_folder, name):
    with pytest.raises(ConfigError, match="ORG/NAME"):
        push(run_folder, name)


def test_a_mistyped_run_is_not_asked_of_the_hub(hub, tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match="no such file"):
        load_model("runs/frist", "cpu")
    assert hub.asked == []
    with pytest.raises(CheckpointError, match="no such folder here, and the hub answered"):
        load_model("runs/frist@main", "cpu")  # only the hub has revisions
    assert hub.asked


def test_what_the_hub_does_not_have_is_named(hub):
    with pytest.raises(CheckpointError, match=r"lab/nothing: there is no such folder here, and the hub answered"):
        load_model("lab/nothing", "cpu")
    hub.add_commit("lab/words", {"README.md": b"# words\n"})
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        load_model("lab/words", "cpu")
    with pytest.raises(CheckpointError, match=r"lab/words@v9: the model has no such branch, tag or commit"):
        load_model("lab/words", "cpu", revision="v9")


def test_a_path_has_no_revision(run_folder):
    with pytest.raises(CheckpointError, match="this is a path"):
        load_model(run_folder, "cpu", revision="main")


def test_an_unfinished_run_is_refused(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match="not a complete run"):
        write_shared(tmp_path / "run", tmp_path / "shared", NAME)
    with pytest.raises(ManifestError):
        write_shared(run_folder, tmp_path / "shared", NAME, manifest=tmp_path / "none.csv")


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_writes_a_folder_and_says_what_the_card_lacks(run_folder, tmp_path, monkeypatch, capsys):
    from avser.cli import main as door

    monkeypatch.setattr(sys, "argv", ["avser", "push", str(run_folder), NAME, "--folder", str(tmp_path / "shared")])
    with pytest.raises(SystemExit) as left:
        door.main()
    out, err = capsys.readouterr()
    assert not left.value.code
    assert out == f"{tmp_path / 'shared'}\n"
    assert "--licence" in err
    assert "--regions" in err
    assert (tmp_path / "shared" / "model.safetensors").is_file()


@pytest.mark.slow
def test_two_people_at_two_terminals(hub, run_folder, tiny_corpus, tmp_path):
    """One pushes, the other predicts, each by the command and with nothing in common but the hub."""
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}

    def avser(who: str, *arguments: object) -> str:
        (tmp_path / who).mkdir(exist_ok=True)
        own = {"HF_HOME": str(tmp_path / who / "hf"), "HF_TOKEN": WRITER}
        command = [sys.executable, "-m", "avser.cli", *map(str, arguments)]
        options = {"cwd": tmp_path / who, "env": {**environment, **own}, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = avser("anna", "push", run_folder, NAME, "--licence", "mit", "--public")
    assert not hub.repos[NAME]["private"]
    commit = hub.repos[NAME]["refs"]["main"]
    assert f"(commit {commit})" in told
    clip = tiny_corpus / "media" / "s01_fear_01.mp4"
    theirs = avser("ben", "predict", f"{NAME}@{commit}", clip, "--json")
    ours = avser("anna", "predict", run_folder, clip, "--json")
    assert json.loads(theirs) == json.loads(ours)
