"""The libraries that are not Python's own: torch, OpenCV, MediaPipe and PyAV, each made to do something."""

from __future__ import annotations

import shutil
from typing import Any

from avser.doctor.finding import BROKEN, OK, WARNING, Finding, probe
from avser.doctor.machine import describe_threads
from avser.doctor.versions import requirements_of, version_of

TORCH_PACKAGES = ("torch", "torchvision", "torchaudio")
CV2_PACKAGES = tuple(
    f"opencv-{kind}" for kind in ("python", "contrib-python", "python-headless", "contrib-python-headless")
)
NEEDED_CODECS = {"h264", "aac", "mp3", "pcm_s16le"}  # without these hardly any recording can be read
REINSTALL_TORCH = (
    "install all three by one command, so that they come from one place: pip install --force-reinstall "
    + " ".join(TORCH_PACKAGES)
    + " (for a GPU or a CPU of your choice add the --index-url that https://pytorch.org/get-started names)"
)

TORCH_PROBE = """
import torch, torchvision, torchaudio
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
answer = {"versions": [m.__version__ for m in (torch, torchvision, torchaudio)], "threads": torch.get_num_threads(),
    "cuda": torch.version.cuda, "gpus": [], "mps": torch.backends.mps.is_available(), "fault": ""}
if torch.cuda.is_available():
    try:
        for i in range(torch.cuda.device_count()):
            torch.ones(8, 8, device=f"cuda:{i}").matmul(torch.ones(8, 8, device=f"cuda:{i}")).sum().item()
            memory = torch.cuda.get_device_properties(i).total_memory
            answer["gpus"].append(f"{torch.cuda.get_device_name(i)}, {memory / 2**30:.0f} GiB")
    except Exception as error:
        answer["fault"] = str(error).splitlines()[0]
"""
CV2_PROBE = """
import numpy
from avser.media.native import import_native
cv2 = import_native("cv2")
cv2.imencode(".jpg", numpy.zeros((8, 8, 3), numpy.uint8))
answer = {"version": cv2.__version__}
"""
FACE_PROBE = """
import numpy
from avser.errors import ConfigError
from avser.media.landmarker import FaceLandmarker, find_model
from avser.media.native import import_native
from avser.media.video import Frame
import_native("mediapipe")
try:
    answer = {"model": str(find_model()), "advice": ""}
except ConfigError as error:
    answer = {"model": None, "advice": str(error)}
else:
    with FaceLandmarker(find_model(), 1) as landmarker:
        landmarker.detect(Frame(0.0, numpy.zeros((64, 64, 3), numpy.uint8)))
"""
CODEC_PROBE = """
from avser.media.codecs import describe_library, missing_decoders
answer = {"library": describe_library(), "missing": missing_decoders()}
"""
MICROPHONE_PROBE = """
import sounddevice
answer = {"inputs": [device["name"] for device in sounddevice.query_devices() if device["max_input_channels"]]}
"""


def check_torch() -> list[Finding]:
    answer, fault = probe(TORCH_PROBE)
    if answer is None:
        found = f"{', '.join(f'{name} {version_of(name)}' for name in TORCH_PACKAGES)}: {fault}"
        return [Finding("torch", BROKEN, found, _torch_advice(fault))]
    versions = ", ".join(f"{name} {v}" for name, v in zip(TORCH_PACKAGES, answer["versions"], strict=True))
    findings = [Finding("torch", OK, versions)]
    # Wheels for other releases of CUDA work together, as the registry's own do; wheels with CUDA and without do not.
    kinds = {build.rstrip("0123456789.") for v in answer["versions"] if (build := v.partition("+")[2])}
    if len(kinds) > 1:
        found = f"built for {' and '.join(sorted(kinds))}, which do not fit: {findings[0].found}"
        findings = [Finding("torch", WARNING, found, REINSTALL_TORCH)]
    return [*findings, _gpu(answer), describe_threads(answer["threads"])]


def _torch_advice(fault: str) -> str:
    if "torchvision::" in fault or "undefined symbol" in fault or "libtorch" in fault:
        return f"torch and the other two were not built for each other: {REINSTALL_TORCH}"
    return REINSTALL_TORCH


def _gpu(answer: dict[str, Any]) -> Finding:
    if answer["fault"]:
        mend = f"this torch does not fit the GPU or its driver; {REINSTALL_TORCH}; or hide it: CUDA_VISIBLE_DEVICES="
        return Finding("GPU", BROKEN, f"there is one, and it fails: {answer['fault']}", mend)
    if answer["gpus"]:
        return Finding("GPU", OK, f"{'; '.join(answer['gpus'])} (CUDA {answer['cuda']})")
    if answer["mps"]:
        return Finding("GPU", OK, "Apple's, which avser does not use; the CPU does the work")
    if shutil.which("nvidia-smi"):
        why = "its driver is not to be reached" if answer["cuda"] else "this torch is built for the CPU alone"
        mend = "compare the driver in nvidia-smi with the CUDA of this torch" if answer["cuda"] else REINSTALL_TORCH
        return Finding("GPU", WARNING, f"nvidia-smi is there, and torch sees no GPU: {why}", mend)
    return _no_gpu("none found")


def _no_gpu(why: str) -> Finding:
    return Finding("GPU", OK, f"{why}; the CPU does the work")


def check_opencv() -> list[Finding]:
    there = {name: found for name in CV2_PACKAGES if (found := version_of(name))}
    installed = ", ".join(f"{name} {found}" for name, found in there.items()) or "none is installed"
    wanted = [f"'{r}'" for r in requirements_of("avser") if r.name in CV2_PACKAGES]
    mend = f"pip install {' '.join(wanted)}"
    if there:  # they overwrite each other's files, so that all have to go first
        mend = f"pip uninstall --yes {' '.join(there)}; {mend}"
    if len(set(there.values())) > 1:
        return [Finding("OpenCV", BROKEN, f"{installed}: they own the same cv2, in other versions", mend)]
    answer, fault = probe(CV2_PROBE)
    if answer is None:
        return [Finding("OpenCV", BROKEN, f"{installed}: {fault}", mend)]
    if not any(found.startswith(answer["version"]) for found in there.values()):
        return [Finding("OpenCV", WARNING, f"cv2 is {answer['version']}, and installed is {installed}", mend)]
    if len({"headless" in name for name in there}) > 1:
        return [Finding("OpenCV", WARNING, f"{installed}: with and without windows, over the same cv2", mend)]
    return [Finding("OpenCV", OK, installed)]


def check_faces() -> list[Finding]:
    answer, fault = probe(FACE_PROBE)
    found = f"mediapipe {version_of('mediapipe')}"
    if answer is None:
        return [Finding("faces", BROKEN, f"{found}: {fault}", "pip install --force-reinstall mediapipe, or see above")]
    if answer["model"] is None:
        return [Finding("faces", WARNING, f"{found}, without its model", answer["advice"])]
    return [Finding("faces", OK, f"{found}, model {answer['model']}")]


def check_codecs() -> list[Finding]:
    answer, fault = probe(CODEC_PROBE)
    mend = "take PyAV as a wheel, which carries FFmpeg: pip install --force-reinstall --only-binary av av"
    if answer is None:
        return [Finding("codecs", BROKEN, f"av {version_of('av')}: {fault}", mend)]
    missing = answer["missing"]
    if not missing:
        return [Finding("codecs", OK, f"{answer['library']} decodes all that was asked for")]
    status = BROKEN if NEEDED_CODECS & set(missing) else WARNING
    return [Finding("codecs", status, f"{answer['library']} cannot decode {', '.join(missing)}", mend)]


def check_microphone() -> list[Finding]:
    """What `avser live` hears with; nothing where the extra is not installed."""
    if version_of("sounddevice") is None:
        return []
    answer, fault = probe(MICROPHONE_PROBE)
    if answer is None:
        mend = "sounddevice needs PortAudio; on Debian or Ubuntu: apt-get install libportaudio2"
        return [Finding("microphone", WARNING, fault, mend)]
    return [Finding("microphone", OK, ", ".join(answer["inputs"]) or "none found; `avser live --file` needs none")]
