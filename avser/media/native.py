"""Imports OpenCV and MediaPipe late, and says which package of the system is missing when that fails."""

from __future__ import annotations

import importlib
from typing import Any

from avser.errors import ConfigError


def import_native(name: str) -> Any:
    """The module of that name. Late, because it takes up to a second and needs libraries that a server may lack.

    Raises:
        ConfigError: it is not installed, or a shared library that it needs is missing.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise missing_library(error) from error


def missing_library(error: Exception) -> ConfigError:
    """One line of advice for an import that failed.

    Not a MediaError: nothing is wrong with the clip, and no clip may be passed over because of it.
    """
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if ".so" in reason:
        advice = "on Debian or Ubuntu: apt-get install libgl1 libegl1 libgles2"
    else:
        advice = "install the requirements of avser"
    return ConfigError(f"faces cannot be found: {reason}; {advice}; or set media.faces.tracker=none")
