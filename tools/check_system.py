"""Check after installation that the system libraries which the wheels need are there, and name the package if not."""

from __future__ import annotations

import ctypes
import sys

DEBIAN_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
}


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


def main() -> int:
    missing = missing_packages()
    if missing:
        print(f"system libraries are missing; install them: apt-get install {' '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
