"""The site builds strictly, without a network, and loads nothing from elsewhere when it is read."""

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow

BUILD = """
import socket
def refuse(*_):
    raise OSError("the site is built without a network")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Loads(HTMLParser):
    """Addresses that a browser fetches without being asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    missing = sorted(page for page in pages if not (site / page).is_file())
    assert not missing


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    wrong = []
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        wrong += [f"{page.name}: {address}" for address in loads.found if re.match(r"(https?:)?//", address)]
    for sheet in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import\s+)['\"]?((?:https?:)?//[^'\")]+)", sheet.read_text(encoding="utf-8"))
        wrong += [f"{sheet.name}: {address}" for address in outside]
    assert not wrong


def test_the_api_holds_signatures_and_docstrings(site: Path) -> None:
    page = (site / "api" / "front_door.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "load_model( run: str | Path, device: str | None = None" in text
    assert "Nothing is unpickled" in text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_asks_nobody_else_and_finds_what_is_searched_for(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/"
    asked, errors = [], []
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index.html", "ROI.html", "api/models.html", "responsible_use.html"):
            assert page.goto(here + name).ok
        page.goto(here + "index.html")
        page.fill("[data-md-component=search-query]", "re-pairing")
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        chromium.close()
    server.shutdown()
    assert not errors
    assert [url for url in asked if not url.startswith((here, "data:", "blob:"))] == []
