"""avser: audio-visual emotion recognition that shows which moments of voice and face carried the emotion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avser.version import __version__

if TYPE_CHECKING:
    from avser.config import Config, load_config
    from avser.errors import AvserError
    from avser.explanation import explain
    from avser.inference import load_model
    from avser.live.stream import Stream
    from avser.recordings.predict import predict

__all__ = ["AvserError", "Config", "Stream", "__version__", "explain", "load_config", "load_model", "predict"]

_HOMES = {
    "AvserError": "avser.errors",
    "Config": "avser.config",
    "load_config": "avser.config",
    "explain": "avser.explanation",
    "load_model": "avser.inference",
    "predict": "avser.recordings.predict",
    "Stream": "avser.live.stream",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import avser` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'avser' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
