"""The command as a person meets it: answers on stdout, the rest on stderr, exit codes, and never a traceback."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avser.cli import main as door
from avser.config import config_to_yaml

CLIP = "s01_fear_01"


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls `avser ARGUMENTS` as the entry point does; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avser", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            door.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(left.value.code or 0), out, err

    return call


@pytest.fixture
def tiny_yaml(tiny_config, tmp_path):
    """Path of a YAML file with the tiny configuration; overrides as for `load_config`."""

    def write(*overrides: str) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(config_to_yaml(tiny_config(*overrides)))
        return path

    return write


@pytest.fixture
def clip(tiny_corpus) -> Path:
    return tiny_corpus / "media" / f"{CLIP}.mp4"


# --- help and configurations -------------------------------------------------------------------------------------


def test_help_is_light_and_names_every_command():
    code = (
        "import sys\n"
        "from avser.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'av', 'cv2', 'mediapipe', 'scipy', 'sklearn', 'matplotlib', 'pandas'}\n"
        "    print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("LOADED []")
    for command in ("cache", "train", "evaluate", "ablate", "robustness", "roi", "predict", "config"):
        assert f"\n  {command} " in done.stdout


def test_overrides_are_not_swallowed_by_the_help(run):
    code, out, err = run("train", "--help")
    assert (code, err) == (0, "")
    assert "[CONFIG|KEY=VALUE]..." in out
    assert "--no-overwrite" not in out


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["config", "show", "av_roy"], "did you mean av_roi?"),
        (["config", "check", "training.epoch=3"], "did you mean 'training.epochs'?"),
        (["config", "check", "roi.mass=2"], "must be between 0 and 1"),
        (["train", "nowhere.yaml"], "no configuration file nowhere.yaml"),
        (["train", "av_roi"], "data.manifest and data.cache must be set"),
        (["ablate", "synthetic", "model.modalities=[audio]"], "needs audio and video"),
        (["predict"], "Missing argument"),
        (["predcit"], "No such command"),
    ],
)
def test_wrong_usage_exits_2_with_advice(run, arguments, advice):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert advice in err


def test_the_module_exits_as_the_command_does():
    done = subprocess.run(
        [sys.executable, "-m", "avser.cli", "config", "show", "ravdes"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no configuration named 'ravdes'; did you mean ravdess?")
    assert done.stderr.count("\n") == 1


def test_config_list_has_a_line_for_every_file(run):
    code, out, _ = run("config", "list")
    assert code == 0
    for line in ("systems:", "  av_roi ", "corpora:", "  ravdess ", "experiments:", "  demo "):
        assert f"\n{line}" in f"\n{out}"


def test_config_show_can_be_read_back(run, tmp_path):
    code, out, _ = run("config", "show", "av_roi", "ravdess", "training.epochs=7")
    assert code == 0
    assert "epochs: 7" in out
    (tmp_path / "shown.yaml").write_text(out)
    assert run("config", "show", tmp_path / "shown.yaml") == (0, out, "")


def test_config_check_counts_the_manifest(run, tiny_yaml):
    code, out, _ = run("config", "check", tiny_yaml())
    assert code == 0
    assert "36 clips, 6 speakers" in out
    assert "protocol speaker_holdout(test=0.34,val=0.2,seed=0); speakers disjoint: yes; sentences disjoint: " in out
    assert out.endswith("the configuration is valid\n")
    code, out, err = run("config", "check", tiny_yaml(), "data.manifest=nowhere.csv")
    assert (code, out) == (1, "")
    assert "nowhere.csv: no such file; make one with" in err


def test_config_check_names_every_fault_of_the_manifest_and_every_missing_file(run, tmp_path):
    manifest = tmp_path / "mine.csv"
    manifest.write_text("clip_id,corpus,speaker,emotion,audio,video\na,my,1,joyful,a.wav,\nb,my,,anger,b.wav,\n")
    code, _, err = run("config", "check", f"data.manifest={manifest}")
    assert code == 1
    assert "line 2, column emotion: got 'joyful'" in err
    assert "line 3, column speaker: empty" in err
    manifest.write_text("clip_id,corpus,speaker,emotion,audio,video\na,my,1,anger,a.wav,\nb,my,2,fear,b.wav,\n")
    code, _, err = run("config", "check", f"data.manifest={manifest}")
    assert code == 1
    assert "2 files are not there" in err
    assert "clip b, column audio: there is no b.wav below" in err


def test_config_check_looks_into_published_protocols(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {protocols: {mine: {test: ['1, 2', '2-1']}}}")
    code, out, err = run("config", "check", path)
    assert (code, out) == (2, "")
    assert "data.protocols.mine.test: the range '2-1' does not rise" in err


def test_config_protocols_lists_what_publications_keep_apart(run):
    code, out, _ = run("config", "protocols", "cremad")
    assert code == 0
    row = next(line for line in out.splitlines() if " hicmae " in line)
    assert row.split()[:6] == ["cremad", "hicmae", "5", "yes", "no", "no"]
    assert "emodb" not in out
    assert "for any manifest: speaker_holdout, " in out
    code, out, _ = run("config", "protocols")
    assert all(f" {corpus} " in out for corpus in ("cremad", "ravdess", "emodb", "iemocap", "msp_improv"))
    assert run("config", "protocols", "cremat")[0] == 2


# --- cache -------------------------------------------------------------------------------------------------------


def test_cache_lists_what_failed_and_caches_the_rest(run, tiny_corpus, tiny_yaml, tmp_path):
    (tmp_path / "media").mkdir()
    lines = (tiny_corpus / "manifest.csv").read_text().splitlines()[:4]
    for line in lines[1:]:
        name = line.split(",")[0] + ".mp4"
        shutil.copy(tiny_corpus / "media" / name, tmp_path / "media" / name)
    manifest, out = tmp_path / "manifest.csv", tmp_path / "cache"
    manifest.write_text("\n".join(lines) + "\n")
    broken = lines[2].split(",")[0]
    (tmp_path / "media" / f"{broken}.mp4").write_bytes(b"no media at all")

    code, said, err = run("cache", manifest, tiny_yaml(), "--out", out, "--workers", 1)
    assert code == 1
    assert said == f"2 of 3 clips cached in {out} (0 were there already, 1 failed)\n"
    assert f"failed: {broken}: " in err
    assert "damaged" in err
    assert len(list((out / "clips").iterdir())) == 2
    assert broken in (out / "failures.csv").read_text()

    shutil.copy(tiny_corpus / "media" / f"{broken}.mp4", tmp_path / "media")
    code, said, err = run("cache", manifest, tiny_yaml(), "--out", out, "--workers", 1)
    assert (code, said) == (0, f"3 of 3 clips cached in {out} (2 were there already, 0 failed)\n")
    code, said, err = run("cache", manifest, tiny_yaml(), "media.fps=5", "--out", out)
    assert (code, said) == (1, "")
    assert "media.fps is 10.0 in the cache, 5.0 asked for" in err


# --- runs --------------------------------------------------------------------------------------------------------


def test_train_refuses_to_lose_a_finished_run(run, tiny_ablation):
    config = tiny_ablation / "audio" / "config.yaml"
    code, out, err = run("train", config)
    assert (code, out) == (1, "")
    assert "a finished run is there; give another name (name=...) or --overwrite it" in err


def test_train_and_evaluate_print_the_same_scores(run, tiny_yaml, tmp_path):
    sources = [tiny_yaml(), "name=once", "training.epochs=1", "model.modalities=[audio]"]
    code, trained, err = run("train", *sources)
    assert code == 0
    assert "speakers: train" in err
    code, evaluated, _ = run("evaluate", tmp_path / "runs" / "once")
    assert code == 0
    assert evaluated.startswith(trained)
    assert "calibration error, 15 even bins" in evaluated
    assert "By speaker" in evaluated
    metrics = json.loads((tmp_path / "runs" / "once" / "metrics.json").read_text())
    assert f"{metrics['test']['uar']['value']:.1f} [" in trained
    assert metrics["split_fingerprint"] in trained.replace("\n", "")
    assert "speakers disjoint: yes; sentences disjoint: " in " ".join(trained.split())
    code, validated, _ = run("evaluate", tmp_path / "runs" / "once", "--split", "val")
    assert code == 0
    assert f"{metrics['val']['num_clips']} clips of" in validated
    code, _, err = run("evaluate", tmp_path / "runs" / "once", "--split", "tset")
    assert code == 2
    assert "take one of train, val, test" in err


def test_crossval_trains_every_fold_and_leaves_its_tables(run, tiny_yaml, tmp_path):
    sources = [tiny_yaml(), "training.epochs=1", "model.modalities=[audio]", "--out", tmp_path / "out"]
    code, printed, err = run("crossval", *sources)
    assert code == 0
    assert "[1/1] av_roi/fold0-seed0: trained" in err
    assert "1 of 1 folds keep everybody in test out of training" in " ".join(printed.split())
    for suffix in ("md", "csv", "json", "png"):
        assert (tmp_path / "out" / f"crossval.{suffix}").is_file()
    for wrong in (["--seeds", "0,0"], ["--folds", "x"], ["--folds", "1"], ["--jobs", "0"]):
        assert run("crossval", *sources, *wrong)[0] == 2


def test_ablate_resumes_without_training_and_prints_whole_numbers(run, tiny_ablation):
    config = tiny_ablation / "fused" / "config.yaml"
    before = {path: path.stat().st_mtime_ns for path in tiny_ablation.rglob("model.safetensors")}
    code, out, _ = run("ablate", config, "name=ablation", "--resume")
    assert code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lines = [line for line in out.splitlines() if line.strip().startswith(("voice", "face", "fused model"))]
    assert len(lines) == 5  # one line a row: no cell was broken
    assert all(line.count("]") >= 2 for line in lines)


# --- predict and roi ---------------------------------------------------------------------------------------------


def test_predict_answers_the_good_and_names_the_bad(run, tiny_ablation, clip, tmp_path):
    bad = tmp_path / "a broken file with a name long enough to be wrapped by a terminal of eighty columns.mp4"
    bad.write_bytes(b"no media at all")
    again = shutil.copy(clip, tmp_path / "again.mp4")
    code, out, err = run("predict", tiny_ablation / "fused", clip, bad, "nowhere.mp4", again)
    assert code == 1
    head, *lines = [line.split() for line in out.splitlines() if line.strip(" ─")]
    assert head == ["recording", "seconds", "emotion", "%", "voice", "stands", "out", "face", "stands", "out"]
    assert [line[0] for line in lines] == [CLIP, "again"]
    assert lines[0][1:] == lines[1][1:]
    assert lines[0][1].startswith("0.0-")
    assert lines[0][2] in ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    assert 16 < int(lines[0][3]) <= 100
    assert len(lines[0]) > 5  # both curves have regions
    assert f"failed: {bad}: not readable" in err
    assert "failed: nowhere.mp4: no such file" in err
    assert "2 of 4 recordings failed" in err


def test_predict_writes_what_is_asked_for_and_does_not_do_it_twice(run, tiny_ablation, clip, tmp_path):
    folder, out = tmp_path / "talks", tmp_path / "out"
    folder.mkdir()
    shutil.copy(clip, folder / "talk.mp4")
    asked = ("predict", tiny_ablation / "fused", folder, "--out", out, "--export", "vtt,eaf", "--export", "mp4")
    code, _, err = run(*asked, "--window", "1", "--hop", "0.5", "--csv")
    assert (code, "earlier" in err) == (0, False)
    names = {"talk.json", "talk.vtt", "talk.eaf", "talk-answer.mp4", "predictions.csv", "failures.csv"}
    assert {path.name for path in out.iterdir()} == names
    code, printed, err = run(*asked, "--window", "1", "--hop", "0.5", "--csv")
    assert code == 0
    assert "1 answered earlier" in err
    assert printed == (out / "predictions.csv").read_text()
    rows = list(csv.DictReader(printed.splitlines()))
    assert len(rows) > 3
    assert float(rows[1]["start_s"]) == 0.5


def test_predict_draws_one_video_and_refuses_what_contradicts_itself(run, tiny_ablation, clip, tmp_path):
    code, _, _ = run("predict", tiny_ablation / "fused", clip, "--video", tmp_path / "drawn.mp4")
    assert code == 0
    assert (tmp_path / "drawn.mp4").stat().st_size > 10_000
    for wrong in (["--json", "--csv"], ["--export", "csv"], ["--window", "1", "--hop", "2"], ["--video", "x.avi"]):
        code, out, err = run("predict", tiny_ablation / "fused", clip, *wrong)
        assert (code, out) == (2, "")
        assert wrong[0] in err or "a window has" in err


def test_predict_as_json_is_one_object_a_line(run, tiny_ablation, clip, tmp_path):
    again = shutil.copy(clip, tmp_path / "again.mp4")
    code, out, err = run("predict", tiny_ablation / "fused", clip, again, clip, "--json")
    assert (code, err) == (0, "")
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == 2
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
    assert [answer["clip"] for answer in answers] == [CLIP, "again"]  # a file that is named twice is answered once
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert answers[0]["emotion"] == max(answers[0]["probabilities"], key=answers[0]["probabilities"].get)
    for modality in ("audio", "video"):
        curve = answers[0]["salience"][modality]
        assert len(curve["times"]) == len(curve["values"]) > 0
        assert sum(curve["values"]) == pytest.approx(1, abs=1e-3)
        assert all(region["start_s"] < region["end_s"] for region in answers[0]["regions"][modality])


def test_predict_says_which_run_of_a_folder_to_name(run, tiny_ablation, clip, tmp_path):
    code, out, err = run("predict", tiny_ablation, clip)
    assert (code, out) == (1, "")
    assert str(tiny_ablation / "fused") in err
    code, out, err = run("predict", tmp_path, clip)
    assert (code, out) == (1, "")
    assert "is this the folder of a finished run?" in err


def test_roi_of_a_clip_and_of_the_split(run, tiny_ablation, clip, tmp_path):
    code, out, _ = run("roi", tiny_ablation / "audio", clip, "--out", tmp_path / "clip")
    assert (code, out) == (0, f"report: {tmp_path / 'clip' / 'report.html'}\n")
    assert (tmp_path / "clip" / "figures" / f"{CLIP}.png").is_file()
    code, out, _ = run("roi", tiny_ablation / "audio", "--out", tmp_path / "split")
    assert (code, out) == (0, f"report: {tmp_path / 'split' / 'report.html'}\n")
    assert (tmp_path / "split" / "regions.csv").is_file()
    code, out, err = run("roi", tiny_ablation, clip, "--out", tmp_path / "both", "--curves", "fused")
    assert (code, out) == (0, f"report: {tmp_path / 'both' / 'report.html'}\n")
    assert "warning: Both curves come from one fused model" in err
    assert "Both curves come from one fused model" in (tmp_path / "both" / "report.html").read_text()
    code, out, err = run("roi", tiny_ablation / "audio", clip, "--out", tmp_path / "none", "--curves", "fused")
    assert (code, out) == (2, "")
    assert "there is no model of both" in err
    code, out, err = run("roi", tiny_ablation, "nowhere.mp4", "--out", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err == "error: nowhere.mp4: no such file\n"
