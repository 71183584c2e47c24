"""The report in a real browser: it loads quietly, follows the recording to the frame, and does what its buttons say."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avser.config import load_config
from avser.explanation import explain
from avser.inference import TrainedModel, read_media
from avser.media.preview import encode_preview
from avser.models.build import build_model
from avser.roi.report.page import ReportSummary, write_report
from avser.roi.report.view import ClipView
from avser.structures import Clip, Curve, FaceTrack, Prediction
from preprocessing.synthetic.corpus import Settings, write_corpus

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
NASTY = "<script>alert(1)</script>.mp4"
FRAME_TIMES = np.array([0.2, 0.3, 0.4, 0.55, 0.6, 0.8, 0.9, 1.0, 1.3, 1.4])  # uneven, and later than the voice
LEVELS = np.array([30, 225, 60, 195, 90, 165, 45, 210, 75, 180])
PICTURE = """async t => {
  const media = document.querySelector("video");
  const there = new Promise(done => media.addEventListener("seeked", done, { once: true }));
  media.currentTime = t;
  await there;
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const to = canvas.getContext("2d");
  to.drawImage(media, 0, 0, 8, 8);
  return to.getImageData(4, 4, 1, 1).data[1];
}"""
CURSOR = """() => {
  const over = document.querySelector(".over:not(.grid)").getBoundingClientRect();
  return (document.querySelector(".cursor").getBoundingClientRect().left + 1 - over.left) / over.width;
}"""
PLAY = """async () => {
  const media = document.querySelector("video"), seen = [];
  media.muted = true;
  media.currentTime = 0;
  const note = (now, frame) => {
    const left = parseFloat(document.querySelector(".cursor").style.left);
    seen.push([frame.mediaTime, left / 100]);
    media.requestVideoFrameCallback(note);
  };
  media.requestVideoFrameCallback(note);
  await media.play();
  await new Promise(done => media.addEventListener("ended", done, { once: true }));
  return seen;
}"""


def wait_until(page: Any, condition: str) -> None:
    """The browser's own way to wait needs eval, which the page forbids."""
    until = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        page.wait_for_timeout(20)


class Watched:
    """A page that remembers what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))

    def left(self) -> float:
        return float(self.page.evaluate(CURSOR))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Writes a page of some clips and opens it as a double click would; there is no network."""
    pages = []

    def open_page(views: list[ClipView], width: int = 1280) -> Watched:
        path = tmp_path / "report.html"
        write_report(path, title="A study", summary=ReportSummary(), views=views)
        page = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        page.set_default_timeout(15_000)
        pages.append(page)
        watched = Watched(page)
        page.goto(path.as_uri())
        if page.locator("video").count():
            wait_until(page, "document.querySelector('video').readyState >= 2")
        return watched

    yield open_page
    for page in pages:
        page.close()


TINY = [
    "media.fps=10",
    "media.crop_px=32",
    "media.faces.tracker=center",
    "model.audio.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 4}",
    "model.video.backbone={name: 'timm:test_byobnet', weights: none, max_stride: 8}",
    "model.audio.dim=16",
    "model.video.dim=16",
    "model.video.temporal=tcn",
    "model.attention.hidden=8",
    "model.fusion.hidden=16",
]


@pytest.fixture(scope="module")
def real_view(tmp_path_factory: pytest.TempPathFactory) -> ClipView:
    """A rendered recording, as an untrained model sees it."""
    folder = tmp_path_factory.mktemp("rendered")
    write_corpus(folder, Settings(speakers=1, clips_per_emotion=1, seed=5))
    config = load_config(TINY)
    torch.manual_seed(0)
    network = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz).eval()
    model = TrainedModel(network, config, EMOTIONS, folder, torch.device("cpu"))
    (path,) = (folder / "media").glob("*_fear_01.mp4")
    view = explain(model, read_media(model, path), true_emotion="fear")
    small = encode_preview(path)
    other = {m: Curve(c.times, 0.5 + np.sin(9 * c.times)) for m, c in view.salience.items()}
    turned = {m: Curve(c.times, 0.5 + np.cos(9 * c.times)) for m, c in view.salience.items()}
    return replace(
        view,
        video=small.content,
        video_type=small.media_type,
        salience_source="attention",
        salience_model="one model each",
        saliences={"attention": view.salience, "rise": other},
        by_class={"rise": {m: {"anger": other[m], "fear": turned[m]} for m in other}},
        by_model={"fused model": turned},
    )


def flicker_view(clip_id: str = "flicker") -> ClipView:
    """A clip of 1.5 s in which each picture has a level of its own."""
    crops = np.tile(LEVELS.astype(np.uint8)[:, None, None, None], (1, 48, 48, 3))
    face = FaceTrack(FRAME_TIMES, crops, np.ones(10, bool), np.zeros((10, 4), np.float32))
    wave = 0.1 * np.sin(np.arange(24000) / 9).astype(np.float32)
    small = encode_preview(Clip(clip_id, 1.5, wave, 16000, face))
    times = (np.arange(15) + 0.5) / 10
    fear = np.where(times < 1, 0.4, 0.1)
    evidence = {m: (times, np.stack([1 - fear, fear], axis=1)) for m in ("audio", "video")}
    parts: dict = {"salience": {"audio": Curve(times, np.arange(15.0))}, "evidence": evidence}
    parts |= {"face_times": FRAME_TIMES, "video": small.content, "video_type": small.media_type}
    return ClipView(clip_id, 1.5, Prediction(clip_id, "anger", {"anger": 0.6, "fear": 0.4}), **parts)


def test_a_page_loads_quietly_asks_for_nothing_and_is_small(opened: Any, real_view: ClipView, tmp_path: Path) -> None:
    watched = opened([real_view])
    assert watched.faults == []
    assert [url for url in watched.requests[1:] if not url.startswith(("data:", "blob:"))] == []
    assert watched.page.evaluate("document.querySelector('video').duration") == pytest.approx(
        real_view.duration_s, abs=0.15
    )
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_cursor_and_picture_belong_to_the_same_moment(opened: Any) -> None:
    """Each picture is shown from its own time on, to the frame, and the cursor stands there."""
    watched = opened([flicker_view()])
    for t in (0.1, 0.25, 0.35, 0.5, 0.57, 0.7, 0.85, 0.95, 1.2, 1.35, 1.45):
        level = watched.page.evaluate(PICTURE, t)
        frame = int(np.searchsorted(FRAME_TIMES, t, side="right")) - 1
        assert level == pytest.approx(LEVELS[frame] if frame >= 0 else 0, abs=14), t
        assert watched.left() == pytest.approx(t / 1.5, abs=0.002)
    assert watched.faults == []


def test_cursor_runs_while_the_recording_plays(opened: Any) -> None:
    watched = opened([flicker_view()])
    seen = np.array(watched.page.evaluate(PLAY))
    assert len(seen) >= 5
    late_s = 1.5 * seen[:, 1] - seen[:, 0]  # cursor minus the picture on the screen
    assert np.median(np.abs(late_s)) < 0.1  # the shortest picture but one lasts so long
    assert watched.left() > 0.95
    assert watched.page.locator(".play").inner_text() == "▶ play"


def test_keys_play_and_step(opened: Any) -> None:
    watched = opened([flicker_view()])
    page = watched.page
    page.locator(".timeline").focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    step = float(np.median(np.diff(FRAME_TIMES)))
    assert watched.left() == pytest.approx((step + 0.1) / 1.5, abs=0.002)
    assert page.locator(".timeline").get_attribute("aria-valuetext") == f"{step + 0.1:.2f} seconds"
    page.keyboard.press("Space")
    wait_until(page, "!document.querySelector('video').paused")
    wait_until(page, "document.querySelector('.play').getAttribute('aria-pressed') === 'true'")
    page.keyboard.press("Space")
    wait_until(page, "document.querySelector('video').paused")
    page.keyboard.press("Home")
    assert watched.left() == pytest.approx(0, abs=0.002)


def test_pointer_gives_values_and_a_click_goes_there(opened: Any) -> None:
    watched = opened([flicker_view()])
    page = watched.page
    box = page.locator(".over:not(.grid)").bounding_box()
    row = page.locator("[data-row=salience-audio]").bounding_box()
    place = (box["x"] + 0.5 * box["width"], row["y"] + row["height"] / 2)
    page.mouse.move(*place)
    text = page.locator(".readout").inner_text()
    assert "0.75 s" in text
    assert "voice salience 1.00 \N{MULTIPLICATION SIGN} mean" in text
    assert "60 %" in text
    assert watched.left() == pytest.approx(0, abs=0.002)  # looking is not going
    page.mouse.click(*place)
    assert watched.left() == pytest.approx(0.5, abs=0.003)
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(0.75, abs=0.01)
    page.mouse.move(5, 5)
    assert not page.locator(".readout").is_visible()


def test_choices_show_other_curves(opened: Any, real_view: ClipView) -> None:
    page = opened([real_view]).page

    def shown() -> set[str]:
        return set(page.locator("[data-layer]:not(.off)").evaluate_all("all => all.map(e => e.dataset.layer)"))

    def button(words: str) -> Any:
        return page.locator(".choices").get_by_role("button", name=words, exact=True)

    assert shown() == {"0"}
    assert button("anger").is_disabled()  # attention does not ask for an emotion
    button("RISE").click()
    (asked,) = shown()
    assert asked != "0"
    assert button("RISE").get_attribute("aria-pressed") == "true"
    assert button("attention").get_attribute("aria-pressed") == "false"
    assert button("fused model").is_disabled()
    other = "fear" if button("anger").get_attribute("aria-pressed") == "true" else "anger"
    button(other).click()
    assert shown() not in ({"0"}, {asked})
    button("attention").click()
    button("fused model").click()
    assert shown() == {"1"}
    visible = page.locator("[data-row=salience-audio] polyline[data-layer]").evaluate_all(
        "all => all.filter(e => getComputedStyle(e).display !== 'none').map(e => e.dataset.layer)"
    )
    assert set(visible) == {"1"}


def test_emotions_are_shown_and_hidden(opened: Any) -> None:
    page = opened([flicker_view()]).page
    fear, curves = page.locator("[data-toggle=fear]"), page.locator("[data-emotion=fear]")
    assert curves.count() == 2
    fear.click()
    assert fear.get_attribute("aria-pressed") == "false"
    assert [curves.nth(i).is_visible() for i in range(2)] == [False, False]
    assert page.locator("[data-emotion=anger]").first.is_visible()
    fear.press("Enter")
    assert curves.first.is_visible()


def test_a_name_is_text_whatever_it_says(opened: Any) -> None:
    watched = opened([flicker_view(NASTY)])
    assert NASTY in watched.page.locator(".meta").inner_text()
    assert watched.faults == []


def test_clips_of_a_split_are_built_when_they_are_opened(opened: Any) -> None:
    watched = opened([flicker_view(NASTY), flicker_view("second")])
    page = watched.page
    assert page.locator("article").count() == 0
    page.locator("summary", has_text="second").click()
    page.wait_for_selector("article video")
    wait_until(page, "document.querySelector('video').readyState >= 2")
    assert page.locator("article").count() == 1
    assert page.evaluate(PICTURE, 0.35) == pytest.approx(LEVELS[1], abs=14)
    page.locator("summary", has_text="alert(1)").click()
    wait_until(page, "document.querySelectorAll('article').length === 2")
    page.locator("summary", has_text="second").click()
    page.locator("summary", has_text="second").click()
    assert page.locator("article").count() == 2
    assert watched.faults == []


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out(opened: Any, real_view: ClipView, width: int) -> None:
    page = opened([real_view], width).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator(".plot").first.bounding_box()
    assert box["width"] > 0.55 * width


def test_a_voice_alone_plays(opened: Any) -> None:
    wave = 0.1 * np.sin(np.arange(16000) / 9).astype(np.float32)
    small = encode_preview(Clip("v", 1.0, wave, 16000))
    view = replace(flicker_view(), video=small.content, video_type=small.media_type, duration_s=1.0)
    watched = opened([view])
    wait_until(watched.page, "document.querySelector('audio').readyState >= 2")
    watched.page.evaluate("document.querySelector('audio').currentTime = 0.5")
    wait_until(watched.page, "document.querySelector('.clock').textContent.startsWith('0.50')")
    assert watched.left() == pytest.approx(0.5, abs=0.002)
    assert watched.faults == []
