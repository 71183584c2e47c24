"""Programs about experiments, each `python -m tools.<name>`; here is what their doors share."""

from __future__ import annotations

import sys

from avser.errors import AvserError, ConfigError


def tell(error: AvserError) -> int:
    """Print an error; returns the exit code: 2 for wrong usage, 1 for all else.

    It may quote files from elsewhere, so characters that a terminal would obey are left out.
    """
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(error))
    print(f"error: {text}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def read_count(text: str) -> int:
    """An argument that is a whole number above 0.

    Raises:
        ValueError: it is not; argparse says so with the argument's name.
    """
    if (found := int(text)) < 1:
        raise ValueError(text)
    return found


def read_names(text: str) -> list[str]:
    """An argument "a,b"; spaces around the names do not count."""
    return [word.strip() for word in text.split(",") if word.strip()]
