"""What the pages of the documentation hold: code blocks, and the commands in them and in their sentences."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "preprocessing" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"[A-Z]{2,}|<|\.\.\.|\[--")  # RUN, KEY=V1, <corpus>, CLIP..., [--json]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        yield match[2], re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)


def lines(page: Path) -> Iterator[list[str]]:
    """Every command in the fenced blocks of a page, in words; lines that go on after a backslash are one."""
    for language, text in blocks(page):
        if language in ("", "bash", "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith(("avser ", "python -m ", "make ")):
                    yield shlex.split(line, comments=True)


def mentions(page: Path) -> Iterator[list[str]]:
    """Every command in a sentence or a table, `between backticks`; those that are cut short are left out."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for text in re.findall(r"`([^`]+)`", prose):
        text = " ".join(text.split())
        if text.startswith(("avser ", "python -m ", "make ")) and not text.endswith("..."):
            yield shlex.split(text)


def spans(page: Path) -> Iterator[str]:
    """Everything else `between backticks`."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose))


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
