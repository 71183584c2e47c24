"""Figures of studies: what they show, told by their labels and by what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from avser.errors import AvserError
from avser.evaluation.statistics import Interval
from avser.roi.dynamics import Disagreement, DisagreementEpisode
from avser.roi.report.plots import MODALITY_COLOURS, figure_png
from avser.roi.report.study_plots import plot_alignment_nulls, plot_disagreement, plot_faithfulness, plot_localization
from avser.structures import Curve


def test_each_measure_stands_against_its_own_null() -> None:
    null = {"r0": np.linspace(0, 0.2, 101), "js": np.linspace(0.3, 0.5, 101)}
    figure = plot_alignment_nulls(
        {"r0": 0.4, "js": 0.35, "untested": 1.0}, null, p_values={"r0": 0.0001, "js": 0.25}, words={"r0": "correlation"}
    )
    assert [ax.get_xlabel() for ax in figure.axes] == ["correlation", "js"]
    assert [ax.get_title() for ax in figure.axes] == ["observed 0.400, p < 0.001", "observed 0.350, p = 0.250"]
    assert [float(np.ravel(ax.get_lines()[0].get_xdata())[0]) for ax in figure.axes] == [0.4, 0.35]
    assert [sum(p.get_height() for p in ax.patches) for ax in figure.axes] == [101, 101]  # type: ignore[attr-defined]
    assert figure_png(figure, dpi=40).startswith(b"\x89PNG")


def test_without_a_null_there_is_nothing_to_stand_against() -> None:
    with pytest.raises(AvserError, match="no measure has a null distribution"):
        plot_alignment_nulls({"r0": 0.4}, {"r0": np.zeros(0)})


def test_controls_are_grey_under_the_saliences() -> None:
    shares = np.array([0.0, 0.5, 1.0])
    deletion = {name: (shares, np.array([0.8, p, 0.2])) for name, p in {"rise": 0.3, "random": 0.6, "att": 0.4}.items()}
    figure = plot_faithfulness(deletion, deletion, controls={"random"}, title="voice")
    left, right = figure.axes
    assert left.get_title(loc="left") == "voice"
    assert [line.get_marker() for line in left.get_lines()] == ["o", "None", "None"]
    assert [line.get_label() for line in left.get_lines()] == ["random", "rise", "att"]
    grey, *coloured = [to_rgb(line.get_color()) for line in left.get_lines()]
    assert len(set(grey)) == 1
    assert all(len(set(colour)) > 1 for colour in coloured)
    np.testing.assert_allclose(left.get_lines()[1].get_xdata(), [0, 50, 100])
    np.testing.assert_allclose(left.get_lines()[1].get_ydata(), [0.8, 0.3, 0.2])
    assert "removed" in left.get_xlabel()
    assert "alone" in right.get_xlabel()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["rise", "att", "random"]


def test_a_salience_of_the_face_has_the_face_s_hue_and_none_the_other_one_s() -> None:
    """Blue is the voice everywhere else; a face's curve in blue would be read as the voice's."""
    curves = {name: (np.array([0.0, 1.0]), np.array([0.8, 0.2])) for name in ("attention", "rise", "occlusion")}
    for modality, other in (("audio", "video"), ("video", "audio")):
        lines = plot_faithfulness(curves, curves, modality=modality).axes[0].get_lines()
        assert lines[0].get_color() == MODALITY_COLOURS[modality]
        assert MODALITY_COLOURS[other] not in {line.get_color() for line in lines}
        assert len({line.get_color() for line in lines}) == 3


def test_localisation_has_a_dot_for_each_modality_of_each_salience() -> None:
    scores = {
        "attention": {"audio": Interval(0.7, 0.6, 0.8), "video": Interval(0.6, 0.5, 0.7)},
        "RISE": {"audio": Interval(0.9, 0.8, 0.95)},
    }
    (ax,) = plot_localization(scores).axes
    voice, face = (container.lines[0] for container in ax.containers)  # type: ignore[union-attr]
    np.testing.assert_allclose(voice.get_xdata(), [0.7, 0.9])
    np.testing.assert_allclose(face.get_xdata(), [0.6])
    assert [to_rgb(d.get_color()) for d in (voice, face)] == [to_rgb(MODALITY_COLOURS[m]) for m in ("audio", "video")]
    bars = ax.containers[0].lines[2][0].get_segments()  # type: ignore[union-attr]
    np.testing.assert_allclose([segment[:, 0] for segment in bars], [[0.6, 0.8], [0.8, 0.95]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["attention", "RISE"]
    assert ax.get_xlabel() == "AUROC"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first one on top


def test_disagreement_names_its_episodes() -> None:
    times = np.r_[np.arange(10), np.arange(20, 30)] / 10
    found = Disagreement(Curve(times, np.full(20, 0.3)), [DisagreementEpisode(0.2, 0.6, 1, 0, 0.6, 0.7, 0.3)], 0.2, 2.0)
    (ax,) = plot_disagreement(found, ["anger", "fear"]).axes
    assert ax.get_title(loc="left") == "voice and face disagree in 20 % of the time"
    assert [t.get_text() for t in ax.texts] == ["voice fear\nface anger"]
    assert len(ax.get_lines()) == 2  # none across the hole
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.2, 0.6))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("seconds", "divergence, bits")


def test_a_clip_without_disagreement_can_be_drawn() -> None:
    empty = Disagreement(Curve(np.zeros(0), np.zeros(0)), [], 0.0, 0.0)
    assert figure_png(plot_disagreement(empty, []), dpi=40).startswith(b"\x89PNG")
