"""Python, the system's libraries, and whether the versions of all packages fit each other."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

from avser.doctor.finding import BROKEN, OK, WARNING, Finding

DEBIAN_PACKAGES = {"libGL.so.1": "libgl1", "libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"}
DEVELOPMENT = ("dev", "docs")  # extras of those who work on avser


def check_python() -> list[Finding]:
    from packaging.specifiers import SpecifierSet

    found = f"{sys.version.split()[0]}, {sys.executable}"
    wanted = metadata("avser")["Requires-Python"]
    if sys.version.split()[0] in SpecifierSet(wanted):
        return [Finding("Python", OK, found)]
    return [Finding("Python", BROKEN, found, f"avser needs Python {wanted}: make a new environment with such a one")]


def missing_packages() -> list[str]:
    """Debian packages whose library cannot be loaded; empty on other systems, whose wheels bring what they need."""
    if sys.platform != "linux":
        return []
    missing = []
    for library, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def check_system() -> list[Finding]:
    missing = missing_packages()
    if not missing:
        return [Finding("system libraries", OK, "all that OpenCV and MediaPipe need")]
    mend = f"apt-get install {' '.join(missing)} (or what holds them on your system)"
    return [Finding("system libraries", BROKEN, f"missing: {', '.join(missing)}", mend)]


def check_requirements() -> list[Finding]:
    """Whether avser's requirements are there in the versions that it asks for, and theirs likewise."""
    own = requirements_of("avser")
    faults = _unmet("avser", own)
    for requirement in own:
        faults += _unmet(requirement.name, requirements_of(requirement.name))
    if not faults:
        return [Finding("requirements", OK, f"avser {version('avser')} and {len(own)} libraries in versions that fit")]
    mend = "pip install --upgrade avser (or, in a checkout, pip install --editable .) puts in what fits"
    return [Finding("requirements", BROKEN, "; ".join(dict.fromkeys(faults)), mend)]


def check_extras() -> list[Finding]:
    findings = []
    for extra in metadata("avser").get_all("Provides-Extra") or []:
        if extra in DEVELOPMENT:
            continue
        wanted = requirements_of("avser", extra)
        there = [r.name for r in wanted if version_of(r.name)]
        faults, command = _unmet("avser", wanted), f"pip install 'avser[{extra}]'"
        versions = ", ".join(f"{name} {version_of(name)}" for name in there)
        if not there:
            findings.append(Finding(f"extra {extra}", OK, f"not installed; to have it: {command}"))
        elif faults:
            findings.append(Finding(f"extra {extra}", WARNING, "; ".join(faults), command))
        else:
            findings.append(Finding(f"extra {extra}", OK, versions))
    return findings


def requirements_of(package: str, extra: str = "") -> list[Any]:
    """What a package asks for here: always, or for one of its extras alone."""
    from packaging.requirements import Requirement

    try:
        found = [Requirement(text) for text in requires(package) or []]
    except PackageNotFoundError:
        return []
    always = [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [r for r in found if r not in always and r.marker and r.marker.evaluate({"extra": extra})]


def _unmet(package: str, wanted: Iterable[Any]) -> list[str]:
    faults = []
    for requirement in wanted:
        there = version_of(requirement.name)
        if there is None:
            faults.append(f"{requirement.name} is not installed ({package} needs it)")
        elif not requirement.specifier.contains(there, prereleases=True):
            faults.append(f"{requirement.name} {there} is installed, {package} needs {requirement.specifier}")
    return faults


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
