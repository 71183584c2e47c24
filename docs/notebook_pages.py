"""Shows the notebooks as pages of the site: MkDocs calls `on_files` before it builds."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

STYLE = re.compile(r"<style.*?</style>", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and its pictures, for every docs/notebooks/NAME.ipynb."""
    for source in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
        pictures: dict[str, bytes] = {}
        parts = [part for cell in cells for part in show_cell(cell, source.stem, pictures)]
        parts.insert(1, f"[Download this notebook]({source.name}); what it printed and drew is stored in it.")
        files.append(File.generated(config, f"notebooks/{source.stem}.md", content="\n\n".join(parts) + "\n"))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def show_cell(cell: dict[str, Any], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    """A cell as Markdown; the pictures that it drew are added to `pictures` by name."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        heading, _, rest = text.partition("\n")  # a paragraph of its own, for what comes below the title
        yield heading
        if rest.strip():
            yield rest.strip()
        return
    yield f"```python\n{text}\n```"
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{stem}_{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode("".join(data["image/png"]))
            yield f"![Drawn by the code above]({name})"
        elif "text/html" in data:
            yield STYLE.sub("", "".join(data["text/html"])).strip()
        elif printed := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            yield f"```\n{printed}\n```"
