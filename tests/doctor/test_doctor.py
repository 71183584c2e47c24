"""The doctor names what is broken and how to mend it, and no broken library keeps it from answering."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avser.doctor import libraries, machine, versions
from avser.doctor.examination import CHECKS, examine
from avser.doctor.finding import BROKEN, OK, WARNING, Finding, describe, is_broken, probe


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts modules and installed packages before the real ones, for this process and those that it starts."""
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(folder)

    def make(*, modules: dict[str, str] | None = None, packages: dict[str, str] | None = None) -> None:
        for name, code in (modules or {}).items():
            (folder / f"{name}.py").write_text(code)
        for name, version in (packages or {}).items():
            info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    return make


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


# --- this machine ------------------------------------------------------------------------------------------------


def test_this_installation_is_well():
    findings = examine()
    assert not is_broken(findings), describe(findings)
    names = [finding.name for finding in findings]
    assert names[:4] == ["Python", "system libraries", "requirements", "torch"]
    assert {"GPU", "threads", "OpenCV", "faces", "codecs", "memory", "disk", "extra cluster"} <= set(names)
    assert all(finding.mend for finding in findings if finding.status != OK)


def test_the_command_answers_people_and_programs(monkeypatch, capsys):
    from avser.cli import main as door

    finding = Finding("torch", BROKEN, "none", "install it")
    monkeypatch.setattr("avser.doctor.examination.CHECKS", {"torch": lambda: [finding]})
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["avser", "doctor", *arguments])
        with pytest.raises(SystemExit) as left:
            door.main()
        assert left.value.code == 1
        out = capsys.readouterr().out
        if arguments:
            assert json.loads(out) == [{"name": "torch", "status": "broken", "found": "none", "mend": "install it"}]
        else:
            assert out.splitlines() == [f"broken   {'torch':<18} none", f"{'':<27} -> install it"]


# --- broken libraries --------------------------------------------------------------------------------------------


def test_torchvision_of_another_torch(fake):
    fake(modules={"torchvision": "raise RuntimeError('operator torchvision::nms does not exist')"})
    finding = only(libraries.check_torch())
    assert finding.status == BROKEN
    assert "operator torchvision::nms does not exist" in finding.found
    assert "were not built for each other" in finding.mend
    assert "--force-reinstall torch torchvision torchaudio" in finding.mend


def test_wheels_with_and_without_cuda(monkeypatch):
    answer = {"versions": ["2.14.1+cpu", "0.29.2+cu132", "2.11.0+cpu"], "threads": 1}
    answer |= {"cuda": None, "gpus": [], "mps": False, "fault": ""}
    monkeypatch.setattr(libraries, "probe", lambda code: (answer, ""))
    assert libraries.check_torch()[0].status == WARNING
    answer["versions"][1] = "0.29.2+cpu"
    assert libraries.check_torch()[0].status == OK
    answer["versions"] = ["2.14.1+cu130", "0.29.2+cu132", "2.11.0+cu130"]  # as the registry gives them
    assert libraries.check_torch()[0].status == OK


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"gpus": ["H100, 80 GiB"], "cuda": "13.0"}, OK, "H100, 80 GiB (CUDA 13.0)"),
        ({"fault": "no kernel image is available"}, BROKEN, "no kernel image"),
        ({}, WARNING, "built for the CPU alone"),
        ({"cuda": "13.0"}, WARNING, "driver"),
    ],
)
def test_a_gpu_that_torch_does_not_use(monkeypatch, changed, status, words):
    answer = {"versions": ["2.14.1"] * 3, "threads": 1, "cuda": None, "gpus": [], "mps": False, "fault": ""}
    monkeypatch.setattr(libraries, "probe", lambda code: ({**answer, **changed}, ""))
    monkeypatch.setattr(libraries.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    finding = libraries.check_torch()[1]
    assert (finding.name, finding.status) == ("GPU", status)
    assert words in finding.found
    assert bool(finding.mend) == (status != OK)


def test_opencv_twice_in_other_versions(fake):
    fake(packages={"opencv-python-headless": "4.9.0.80"})
    finding = only(libraries.check_opencv())
    assert finding.status == BROKEN
    assert "opencv-python-headless 4.9.0.80" in finding.found
    assert (
        "pip uninstall --yes opencv-python opencv-contrib-python opencv-python-headless; pip install " in finding.mend
    )
    assert finding.mend.count("opencv-python<") == 1


def test_opencv_with_and_without_windows(fake):
    from importlib.metadata import version

    fake(packages={"opencv-python-headless": version("opencv-python")})
    finding = only(libraries.check_opencv())
    assert (finding.status, "with and without windows" in finding.found) == (WARNING, True)


def test_opencv_whose_files_another_has_taken_away(fake):
    fake(modules={"cv2": "__version__ = '5.0.0'"})
    finding = only(libraries.check_opencv())
    assert finding.status == BROKEN
    assert "has no attribute 'imencode'" in finding.found
    fake(modules={"cv2": "__version__ = '4.1.0'\nimencode = print"})
    assert "cv2 is 4.1.0" in only(libraries.check_opencv()).found


def test_a_library_that_crashes_is_a_line_of_the_answer(fake):
    fake(modules={"mediapipe": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"})
    finding = only(libraries.check_faces())
    assert (finding.status, "crashed (SIGSEGV)" in finding.found) == (BROKEN, True)


def test_a_face_model_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("AVSER_MODELS", str(tmp_path))
    finding = only(libraries.check_faces())
    assert finding.status == WARNING
    assert "$AVSER_MODELS" in finding.mend
    (tmp_path / "face_landmarker.task").write_bytes(b"not a model")
    finding = only(libraries.check_faces())
    assert finding.status == BROKEN
    assert "is not a FaceLandmarker model" in finding.found


def test_a_microphone_without_the_library_that_drives_it(fake, monkeypatch):
    monkeypatch.setattr(libraries, "version_of", lambda name: None)
    assert libraries.check_microphone() == []
    monkeypatch.setattr(libraries, "version_of", lambda name: "0.5")
    fake(modules={"sounddevice": "raise OSError('PortAudio library not found')"})
    finding = only(libraries.check_microphone())
    assert (finding.status, "apt-get install libportaudio2" in finding.mend) == (WARNING, True)
    assert "PortAudio library not found" in finding.found
    heard = "[{'name': 'desk', 'max_input_channels': 1}, {'name': 'loudspeaker', 'max_input_channels': 0}]"
    fake(modules={"sounddevice": f"query_devices = lambda: {heard}"})
    assert only(libraries.check_microphone()) == Finding("microphone", OK, "desk")


def test_codecs_that_are_missing(monkeypatch):
    for missing, status in ((["vp9", "av1"], WARNING), (["h264"], BROKEN)):
        monkeypatch.setattr(libraries, "probe", lambda code, m=missing: ({"library": "PyAV", "missing": m}, ""))
        finding = only(libraries.check_codecs())
        assert (finding.status, finding.found) == (status, f"PyAV cannot decode {', '.join(missing)}")


def test_a_decoder_that_ffmpeg_does_not_know_is_missed(monkeypatch):
    from avser.media import codecs

    monkeypatch.setattr(codecs, "CODECS", {"h264": "", "no_such_codec": "", "flac": ""})
    assert codecs.missing_decoders() == ["no_such_codec"]


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def fall_ill() -> list[Finding]:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(CHECKS, "Python", fall_ill)
    monkeypatch.setattr("avser.doctor.examination.CHECKS", {"Python": fall_ill, "disk": machine.check_disk})
    first, second = examine()
    assert (first.status, first.found) == (BROKEN, "could not be checked (ZeroDivisionError: oh)")
    assert second.name == "disk"


def test_a_process_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr("avser.doctor.finding.TIMEOUT_S", 0.5)
    assert probe("import time; time.sleep(60)") == (None, "gave no answer within 0.5 s")


def test_it_answers_where_the_command_does_not_start(tmp_path):
    """A broken OmegaConf, without which `avser` cannot start: the doctor does."""
    (tmp_path / "omegaconf.py").write_text("raise ImportError('omegaconf is broken')")
    # Torch and MediaPipe are hidden too, so that this is quick.
    for name in ("torch", "mediapipe", "av", "cv2"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('hidden')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).resolve().parents[2]}"}
    command = [sys.executable, "-m", "avser.doctor"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = {line[9:27].strip(): line for line in done.stdout.splitlines() if line[:1].strip()}
    for name in ("torch", "OpenCV", "faces", "codecs"):
        assert lines[name].startswith(BROKEN)
        assert "hidden" in lines[name]


# --- versions and the machine ------------------------------------------------------------------------------------


def test_a_version_out_of_range_is_named_with_what_is_asked_for(fake):
    fake(packages={"torch": "2.3.0", "mediapipe": "0.10.9"})
    finding = only(versions.check_requirements())
    assert finding.status == BROKEN
    assert "torch 2.3.0 is installed, avser needs <2.15,>=2.11" in finding.found
    assert "torch 2.3.0 is installed, torchvision needs" in finding.found
    assert "mediapipe 0.10.9 is installed, avser needs" in finding.found


def test_another_python_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "version", "3.9.1 (main)")
    finding = only(versions.check_python())
    assert (finding.status, "avser needs Python >=3.11" in finding.mend) == (BROKEN, True)


def test_an_extra_half_installed_says_how_to_have_it_whole(fake, monkeypatch):
    from packaging.requirements import Requirement

    monkeypatch.setattr(
        versions, "requirements_of", lambda package, extra="": [Requirement("made-up>=2"), Requirement("av")]
    )
    for there, status, words in ((None, WARNING, "made-up is not"), ("1.0", WARNING, "needs >=2"), ("2.1", OK, "2.1")):
        monkeypatch.setattr(versions, "version_of", lambda name, v=there: v if name == "made-up" else "18.0")
        finding = versions.check_extras()[0]
        assert finding.status == status
        assert words in finding.found
        assert bool(finding.mend) == (status == WARNING)


def test_missing_system_libraries_are_named_by_their_package(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(versions, "DEBIAN_PACKAGES", {"libavser-no-such.so.1": "libnosuch1"})
    finding = only(versions.check_system())
    assert (finding.status, "apt-get install libnosuch1" in finding.mend) == (BROKEN, True)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert only(versions.check_system()).status == OK


def test_a_container_has_less_than_its_machine(monkeypatch):
    told = {"/proc/meminfo": "MemAvailable:  16777216 kB\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}
    told |= {"/sys/fs/cgroup/memory.max": f"{3 * machine.GIB}\n", "/sys/fs/cgroup/memory.current": f"{machine.GIB}\n"}
    monkeypatch.setattr(machine, "_read", lambda path: told.get(path, ""))
    finding = only(machine.check_memory())
    assert (finding.status, finding.found) == (WARNING, "2.0 GiB free")
    finding = machine.describe_threads(8)
    assert (finding.status, finding.found) == (WARNING, "0.5 cores to use, 8 threads of torch")
    assert finding.mend.endswith("OMP_NUM_THREADS=1")
    told["/sys/fs/cgroup/memory.max"] = "max\n"
    assert only(machine.check_memory()).found == "16.0 GiB free"


def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": machine.GIB}))
    assert only(machine.check_disk()).status == WARNING
