"""Where uploads lie while they are needed: each in a folder of its own, under one root that goes with the server."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from avser.errors import MediaError

MAX_NAME = 60
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")


@dataclass(frozen=True)
class Upload:
    """A file that someone gave.

    Attributes:
        path: where it lies, under a name of ours.
        name: how the person calls it, fit to be shown; still to be escaped.
        about: what its header says, in a line.
    """

    path: Path
    name: str
    about: str = ""


class UploadRoot:
    """The one folder under which everything lies that a server writes.

    Attributes:
        incoming: where the web framework puts what arrives.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="avser-serve-")).resolve()
        self.incoming = self.folder / "incoming"
        self._taken = self.folder / "taken"
        self.incoming.mkdir()
        self._taken.mkdir()

    def take(self, path: str | Path) -> Upload:
        """Move a file that has arrived to a place of its own, under a name that can do no harm.

        Two people may give the same file, which the framework stores once: what is taken belongs to one of them.

        Raises:
            MediaError: it is no longer there, or never lay among what has arrived.
        """
        source = Path(path).resolve()
        if not source.is_relative_to(self.incoming) or not source.is_file():
            raise MediaError(f"{shown_name(source.name)} is no longer here; give it once more")
        suffix = source.suffix.lower() if _SUFFIX.fullmatch(source.suffix) else ""
        folder = self._taken / secrets.token_hex(16)
        folder.mkdir()
        moved = source.rename(folder / f"recording{suffix}")
        self._sweep(source.parent)
        return Upload(moved, shown_name(source.name))

    def remove(self, upload: Upload | None) -> None:
        """Delete one upload; nothing happens where it is gone already."""
        if upload is not None and upload.path.is_relative_to(self._taken):
            shutil.rmtree(upload.path.parent, ignore_errors=True)

    def files(self) -> list[Path]:
        """Every file that lies under the root."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def close(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self, folder: Path) -> None:
        """Remove the folder that a file came in, and the empty files that the framework leaves for each."""
        if folder != self.incoming and not any(folder.iterdir()):
            folder.rmdir()
        for stray in self.incoming.iterdir():
            if stray.is_file() and not stray.stat().st_size:
                stray.unlink(missing_ok=True)


def shown_name(name: str) -> str:
    """A file name as one short line without control characters, so that no message is flooded or turned around."""
    plain = "".join(c for c in name if unicodedata.category(c)[0] != "C").strip() or "recording"
    return plain if len(plain) <= MAX_NAME else f"{plain[: MAX_NAME - 16]}…{plain[-12:]}"
