"""All checks of an installation, none of which a broken library can keep from answering."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from avser.doctor.finding import BROKEN, Finding
from avser.doctor.libraries import check_codecs, check_faces, check_microphone, check_opencv, check_torch
from avser.doctor.machine import check_disk, check_memory
from avser.doctor.versions import check_extras, check_python, check_requirements, check_system

CHECKS: dict[str, Callable[[], list[Finding]]] = {
    "Python": check_python,
    "system libraries": check_system,
    "requirements": check_requirements,
    "torch": check_torch,
    "OpenCV": check_opencv,
    "faces": check_faces,
    "codecs": check_codecs,
    "microphone": check_microphone,
    "memory": check_memory,
    "disk": check_disk,
    "extras": check_extras,
}


def examine() -> list[Finding]:
    """Every check, whatever the others find."""

    def run(item: tuple[str, Callable[[], list[Finding]]]) -> list[Finding]:
        name, check = item
        try:
            return check()
        except Exception as error:  # a doctor does not fall ill
            reason = f"could not be checked ({type(error).__name__}: {error})"
            return [Finding(name, BROKEN, reason, "reinstall avser: pip install --force-reinstall avser")]

    with ThreadPoolExecutor(max_workers=2) as pool:
        return [finding for found in pool.map(run, CHECKS.items()) for finding in found]
