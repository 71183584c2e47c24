"""The page in a real browser: a recording goes in, the emotion and the timeline come out, and nothing of it is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

WAIT_MS = 240_000
ODD_NAMES = ["<script>alert(1)</script>.mp4", "../../x.mp4", "Grüße 名前 😀.mp4", "a" * 240 + ".mp4"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


class Visitor:
    """Someone with the page open; what went wrong on it is remembered, and every address that it asked."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        own = (address, "data:", "blob:", "about:")
        page.on("request", lambda r: None if r.url.startswith(own) else self.elsewhere.append(r.url))
        page.goto(address)
        page.wait_for_selector("#av-file input[type=file]", state="attached")

    def give(self, file: Any) -> None:
        self.page.set_input_files("#av-file input[type=file]", file)
        self.page.wait_for_selector(".av-chosen:not(.av-gone), #av-answer .av-message")

    def ask(self) -> None:
        self.page.click("#av-ask")
        self.page.wait_for_selector(".av-card, #av-answer .av-message")

    def text(self, selector: str) -> str:
        return " ".join(self.page.locator(selector).all_inner_texts())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, served: Any) -> Iterator[Callable[..., Visitor]]:
    pages = []

    def open_page(width: int = 1280) -> Visitor:
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        return Visitor(page, served.address)

    yield open_page
    for page in pages:
        page.close()


def test_a_recording_is_answered_and_nothing_of_it_is_left(visit, served, recording: Path) -> None:
    visitor = visit()
    visitor.give(recording)
    assert recording.name in visitor.text(".av-chosen")
    assert [path.read_bytes() for path in served.files()] == [recording.read_bytes()]
    visitor.page.click("#av-ask")
    visitor.page.wait_for_selector(".av-steps")
    visitor.page.wait_for_selector(".av-card")
    assert served.files() == []

    page = visitor.page
    assert page.locator(".av-card").count() == 2
    assert page.locator(".av-card").first.locator(".av-bars tbody tr").count() == 6
    assert page.locator(".av-card").first.locator(".av-strip i").count() >= 2
    first, second = page.locator("iframe.av-report").all()
    assert (first.is_visible(), second.is_visible()) == (True, False)
    report = page.frame_locator("#av-report-0")
    report.locator(".timeline .row").first.wait_for()
    assert recording.name in report.locator("h1").inner_text()
    assert report.locator("video").evaluate("video => video.readyState >= 0 && video.src.startsWith('blob:')")
    page.wait_for_function("document.getElementById('av-report-0').offsetHeight > 1000", timeout=WAIT_MS)
    page.click("label[for=av-tab-1]")
    assert (first.is_visible(), second.is_visible()) == (False, True)
    assert visitor.faults == []
    assert visitor.elsewhere == []


def test_the_answer_can_be_taken_home(visit, recording: Path, tmp_path: Path) -> None:
    visitor = visit()
    visitor.give(recording)
    visitor.ask()
    card = visitor.page.locator(".av-card").first
    saved = {}
    for kind in ("Report (HTML)", "JSON", "CSV"):
        with visitor.page.expect_download() as download:
            card.get_by_text(kind, exact=True).click()
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    report = saved["Report (HTML)"].read_text(encoding="utf-8")
    assert report.startswith("<!doctype html>")
    assert report.endswith("</html>")
    assert "avserHeight" not in report
    assert json.loads(saved["JSON"].read_text(encoding="utf-8"))["emotion"] in card.locator(".av-verdict").inner_text()
    assert saved["CSV"].read_text(encoding="utf-8-sig").startswith("recording,model,source,emotion,probability")


def test_models_can_be_chosen(visit, recording: Path) -> None:
    visitor = visit()
    visitor.give(recording)
    visitor.page.uncheck("#av-models input >> nth=0")
    visitor.page.uncheck("#av-models input >> nth=1")
    visitor.page.click("#av-ask")
    visitor.page.get_by_text("No model is chosen").wait_for()
    visitor.page.check("#av-models input >> nth=1")
    visitor.page.click("#av-ask")
    visitor.page.wait_for_selector(".av-card")
    assert visitor.page.locator(".av-card").count() == 1
    assert "ablation/audio" in visitor.text(".av-model")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clip.mp4", b"PK\x03\x04" + bytes(100), "is an archive"),
        ("<img src=x onerror=alert(1)>.mp4", b"<script>alert(1)</script>", "no media. Taken are MP4"),
        ("clip.mp4", b"#EXTM3U\n/etc/passwd\n", "is a playlist"),
        ("clip.mp4", b"\0\0\0\x18ftypisom" + b"\xff" * 600, "not readable as a media file"),
    ],
)
def test_what_is_no_recording_is_refused_at_once(visit, served, name: str, content: bytes, words: str) -> None:
    visitor = visit()
    visitor.give({"name": name, "mimeType": "video/mp4", "buffer": content})
    assert words in visitor.text(".av-message")
    assert str(served.scratch) not in visitor.page.content()
    assert served.files() == []
    visitor.page.click("#av-ask")
    visitor.page.get_by_text("There is no recording yet").wait_for()
    assert visitor.faults == []


def test_too_long_and_too_large_are_said_before_any_work(visit, served, write_media, tmp_path: Path) -> None:
    visitor = visit()
    visitor.give(write_media("long.wav", 9.0, voice="pcm_s16le"))
    assert "long.wav lasts 9 s; at most 6 s are taken here" in visitor.text(".av-message")
    large = tmp_path / "large.mp4"
    large.write_bytes(b"\0\0\0\x18ftypisom" + bytes(2_500_000))
    visitor.page.set_input_files("#av-file input[type=file]", large)
    visitor.page.get_by_text("large.mp4 has 2.5 MB; at most 2 MB are taken here").wait_for()
    assert served.files() == []
    assert visitor.faults == []


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>.mp4", "../../x.mp4", "Grüße 名前 😀.mp4", "a" * 240 + ".mp4"]
)
def test_odd_names_do_no_harm(visit, served, recording: Path, name: str) -> None:
    visitor = visit()
    visitor.give({"name": name, "mimeType": "video/mp4", "buffer": recording.read_bytes()})
    assert visitor.text(".av-chosen")
    (root,) = served.scratch.glob("avser-serve-*")
    assert all(path.is_relative_to(root) and path.name == "recording.mp4" for path in served.files())
    visitor.page.uncheck("#av-models input >> nth=0")
    visitor.ask()
    assert visitor.text(".av-verdict")
    assert served.files() == []
    assert visitor.faults == []


def test_two_people_wait_for_their_turn_and_each_gets_their_own_answer(visit, recording: Path, write_media) -> None:
    one, other = visit(), visit()
    # Told by the page itself: on a busy machine the place in the queue is gone before somebody asks for it.
    other.page.evaluate(
        "new MutationObserver(() => window.waited ||= document.body.innerText.includes('queue:'))"
        ".observe(document.body, {childList: true, subtree: true, characterData: true})"
    )
    one.give({"name": "one.mp4", "mimeType": "video/mp4", "buffer": recording.read_bytes()})
    other.give({"name": "other.mp4", "mimeType": "video/mp4", "buffer": recording.read_bytes()})
    one.page.click("#av-ask")
    other.page.click("#av-ask")
    for visitor, name in ((one, "one.mp4"), (other, "other.mp4")):
        visitor.page.wait_for_selector(".av-card")
        assert name in visitor.page.frame_locator("#av-report-0").locator("h1").inner_text()
    assert other.page.evaluate("window.waited") is True


def test_a_recording_of_the_webcam_is_taken(visit, served) -> None:
    visitor = visit()
    visitor.page.get_by_role("tab", name="Webcam").click()
    visitor.page.locator("#av-webcam button", has_text="Webcam").first.click()
    visitor.page.locator("#av-webcam video").first.wait_for()
    visitor.page.wait_for_timeout(1000)
    visitor.page.locator("#av-webcam button[aria-label*=ecord], #av-webcam .button-wrap button").first.click()
    visitor.page.wait_for_timeout(2500)
    visitor.page.locator("#av-webcam button[aria-label*=top], #av-webcam .button-wrap button").first.click()
    visitor.page.wait_for_selector(".av-chosen")
    visitor.ask()
    assert visitor.text(".av-verdict")
    assert served.files() == []
    assert visitor.elsewhere == []


def test_it_fits_a_phone(visit, recording: Path) -> None:
    visitor = visit(width=390)
    visitor.give(recording)
    visitor.ask()
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.real_data
def test_a_real_clip_shows_its_emotion_and_its_timeline(visit, served, real_data: Path) -> None:
    visitor = visit()
    visitor.give(sorted((real_data / "cremad" / "VideoFlash").glob("*.flv"))[0])
    visitor.ask()
    assert visitor.text(".av-verdict")
    visitor.page.frame_locator("#av-report-0").locator(".timeline .row").first.wait_for()
    assert visitor.faults == []
    assert visitor.elsewhere == []
    assert served.files() == []
