"""Figures: what they show, and that drawing leaves matplotlib's global state alone."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import rcParams, rcParamsDefault
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from avser.data.manifest import EMOTIONS
from avser.errors import AvserError
from avser.evaluation.statistics import Interval
from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.roi.report.plots import (
    EMOTION_COLOURS,
    EMOTION_DASHES,
    MODALITY_COLOURS,
    draw_confusion,
    figure_png,
    plot_ablation,
    plot_clip,
    plot_lags,
    save_figure,
)
from avser.roi.report.view import ClipView
from avser.structures import Curve, Prediction, Region


def make_view(**changes: object) -> ClipView:
    """A clip of two seconds with everything in it."""
    rng = np.random.default_rng(0)
    times = {"audio": (np.arange(50) + 0.5) / 25, "video": (np.arange(60) + 0.5) / 30}
    regions = {m: [Region(m, 0.5, 0.9)] for m in times}
    parts: dict = {
        "true_emotion": "fear",
        "log_mel": rng.normal(size=(200, 64)),
        "log_mel_times": (np.arange(200) + 0.5) / 100,
        "faces": rng.integers(0, 255, (60, 32, 32, 3), dtype=np.uint8),
        "face_times": times["video"],
        "salience": {m: Curve(t, rng.dirichlet(np.ones(len(t)))) for m, t in times.items()},
        "regions": regions,
        "truth": regions,
        "evidence": {m: (t, rng.dirichlet(np.ones(2), len(t))) for m, t in times.items()},
    }
    prediction = Prediction("clip", "anger", {"anger": 0.7, "fear": 0.3})
    return ClipView("clip", 2.0, prediction, **(parts | changes))  # type: ignore[arg-type]


def test_every_emotion_has_a_look_of_its_own() -> None:
    assert list(EMOTION_COLOURS) == EMOTIONS
    looks = {(EMOTION_COLOURS[e], EMOTION_DASHES.get(e, ())) for e in EMOTIONS}
    assert len(looks) == len(EMOTIONS)


def test_voice_face_and_both_differ_in_lightness_too() -> None:
    """Told apart even without any colour vision."""
    light = [float(np.dot(to_rgb(c), [0.2126, 0.7152, 0.0722])) for c in MODALITY_COLOURS.values()]
    assert min(abs(a - b) for a, b in itertools.combinations(light, 2)) > 0.1


def test_all_rows_share_one_axis_in_seconds() -> None:
    figure = plot_clip(make_view())
    assert len(figure.axes) == 7
    assert {ax.get_xlim() for ax in figure.axes} == {(0.0, 2.0)}
    assert figure.axes[-1].get_xlabel() == "seconds"
    assert "anger 70 %" in figure.axes[0].get_title(loc="left")


def test_rows_without_data_are_left_out() -> None:
    voice_only = make_view(
        faces=None,
        face_times=None,
        salience={"audio": make_view().salience["audio"]},
        regions={"audio": []},
        truth={},
        evidence={},
    )
    assert len(plot_clip(voice_only).axes) == 2


def test_a_clip_without_regions_says_so() -> None:
    """An empty row looks like a figure that went wrong."""
    words = [
        text.get_text() for ax in plot_clip(make_view(regions={"audio": [], "video": []})).axes for text in ax.texts
    ]
    assert "no region stands out" in words
    usual = [text.get_text() for ax in plot_clip(make_view()).axes for text in ax.texts]
    assert "no region stands out" not in usual


def test_degenerate_content_can_be_drawn() -> None:
    empty = Curve(np.zeros(0), np.zeros(0))
    flat = Curve(np.arange(3.0), np.full(3, np.nan))
    view = make_view(salience={"audio": empty, "video": flat}, evidence={"audio": (np.zeros(0), np.zeros((0, 2)))})
    assert figure_png(plot_clip(view), dpi=40).startswith(b"\x89PNG")


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(AvserError, match="clip: nothing to draw"):
        plot_clip(ClipView("clip", 1.0, Prediction("clip", "anger", {"anger": 1.0})))


def test_ablation_bars_have_the_colours_of_the_modalities() -> None:
    table = {"audio": Interval(50, 45, 55), "video": Interval(60, 55, 65), "fused": Interval(70, 66, 74)}
    ax = plot_ablation(table, chance=16.7).axes[0]
    assert [bar.get_height() for bar in ax.patches] == [50, 60, 70]  # type: ignore[attr-defined]
    assert [bar.get_facecolor()[:3] for bar in ax.patches] == [to_rgb(c) for c in MODALITY_COLOURS.values()]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["voice", "face", "both"]


def test_confusions_are_in_percent_of_the_true_emotion() -> None:
    ax = Figure().subplots()
    draw_confusion(ax, np.array([[3, 1], [0, 0]]), ["anger", "fear"])
    texts = [t.get_text() for t in ax.texts]
    assert texts == ["75", "3", "25", "1", "0", "0", "0", "0"]


def test_lags_show_every_clip_that_has_them() -> None:
    ax = plot_lags([0.1, -0.2, 0.3], [0.2, float("nan"), 0.3], ["anger", "fear", "anger"]).axes[0]
    assert sum(len(np.asarray(c.get_offsets())) for c in ax.collections) == 3
    assert ax.get_xlim()[1] == pytest.approx(0.33)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_figures_are_saved_by_suffix(tmp_path, suffix: str, start: bytes) -> None:
    path = tmp_path / "new" / f"figure{suffix}"
    save_figure(plot_ablation({"audio": Interval(50, 45, 55)}), path)
    assert path.read_bytes().startswith(start)


def test_svg_needs_no_fonts_and_is_the_same_each_time(tmp_path) -> None:
    """Letters are outlines, so that a figure looks alike everywhere; a name may hold what means something to TeX."""
    view = make_view()
    view.clip_id = "a$b$_{<script>}&.mp4"
    pages = []
    for name in ("one.svg", "two.svg"):
        save_figure(plot_clip(view), tmp_path / name)
        pages.append((tmp_path / name).read_text(encoding="utf-8"))
    assert "<text" not in pages[0]
    assert "<script" not in pages[0]
    assert pages[0] == pages[1]
    assert rcParams["svg.fonttype"] == rcParamsDefault["svg.fonttype"]
    assert rcParams["svg.hashsalt"] is None


def test_disagreement_has_a_row() -> None:
    figure = plot_clip(
        make_view(
            disagreement=Disagreement(
                Curve(np.zeros(0), np.zeros(0)), [DisagreementEpisode(0.5, 1.5, 0, 1, 0.6, 0.7, 0.3)], 0.25, 2.0
            )
        )
    )
    row = figure.axes[-1]
    assert [t.get_text() for t in row.texts] == ["anger | fear"]
    assert row.get_ylabel() == "voice |\nface"


def test_pyplot_is_never_loaded() -> None:
    program = "import sys, avser.roi.report.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
