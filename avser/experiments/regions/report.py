"""`avser roi`: regions of one clip, or of a run's whole test split, as tables, figures and one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from avser.data.manifest import ClipRow
from avser.experiments.alignment.study import MAIN_NULL, AlignmentStudy
from avser.experiments.alignment.tables import STRATA, alignment_tables
from avser.experiments.alignment.words import WORDS, describe_alignment
from avser.experiments.faithfulness.folds import FoldRuns
from avser.experiments.faithfulness.results import FaithfulnessStudy
from avser.experiments.faithfulness.study import study_faithfulness
from avser.experiments.faithfulness.tables import faithfulness_figures, faithfulness_rows, faithfulness_tables
from avser.experiments.held_out import HeldOutClips, load_test_clips
from avser.experiments.regions.caveats import caveats, describe_source, describe_tests
from avser.experiments.regions.study import (
    BOXES,
    SEPARATE,
    RegionStudy,
    choose_models,
    study_regions,
    write_tables,
)
from avser.explanation import explain
from avser.inference import TrainedModel, as_clip, load_models
from avser.roi.exchange.export import write_regions
from avser.roi.report.page import ReportFigure, ReportSummary, write_report
from avser.roi.report.plots import MODALITY_WORDS, figure_png, plot_clip, plot_lags, save_figure
from avser.roi.report.study_plots import plot_alignment_nulls, plot_disagreement
from avser.roi.report.tables import ReportTable, lag_table, region_table
from avser.roi.report.view import ClipView
from avser.roi.salience.sources import AUTO
from avser.structures import FUSED, MODALITIES, Clip, Region
from avser.training.checkpoint import write_json

ALSO = ("att_value", "grad_input", "occlusion")  # saliences that a report shows beside its own


def report_clip(
    run: Path,
    clip: Path,
    out: Path,
    *,
    salience: str = AUTO,
    curves: str = SEPARATE,
    formats: Sequence[str] = (),
    warn: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """Report on one media file; returns the path of report.html.

    Args:
        run: a run folder, or a folder of runs "audio", "video" and "fused".
        salience: how to ask which moments carried the answer, a key of `avser.roi.salience.sources.SOURCES`.
        curves: whose they are, see `avser.experiments.regions.study.choose_models`.
        formats: of files with the regions, see `avser.roi.exchange.export.FORMATS`.
        warn: is told what a reader must know first, sentence by sentence; it stands in the report too.
    """
    models = choose_models(load_models(run), curves)
    decoded = as_clip(clip, models.get(FUSED) or next(iter(models.values())))
    view = explain(models, decoded, salience=salience, also=[n for n in ALSO if n != salience], media=clip)
    save_clip_figures([view], out)
    export_regions({view.clip_id: view.regions}, {view.clip_id: view.duration_s}, out, formats, salience)
    warnings = caveats(models, salience, clips=[decoded])
    summary = ReportSummary(paragraphs=describe_source(models, salience), warnings=warnings)
    report = out / "report.html"
    write_report(report, title=f"Regions of interest: {view.clip_id}", summary=summary, views=[view])
    for sentence in warnings:
        warn(sentence)
    return report


def report_split(
    run: Path,
    out: Path,
    *,
    salience: str = AUTO,
    curves: str = SEPARATE,
    formats: Sequence[str] = (),
    num_clips: int = 6,
    num_tested: int = 16,
    warn: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """Report on the whole test split of a run; returns the path of report.html.

    Args:
        salience, curves, formats, warn: as for `report_clip`.
        num_clips: how many clips are shown one by one; the tables are of all.
        num_tested: on how many clips the salience is held against its controls; 0 leaves the test out.
    """
    models = choose_models(load_models(run), curves)
    clips = load_test_clips(models)
    study = study_regions(models, clips, clips.truth, salience=salience)
    tests = check_salience(models, clips, salience, num_tested) if num_tested else []
    out.mkdir(parents=True, exist_ok=True)
    write_tables(study, out)
    durations = {c: max(curves[c].times[-1] for curves in study.salience.values() if c in curves) for c in study.rows}
    export_regions(regions_by_clip(study), durations, out, formats, salience)
    write_json(out / "study.json", {**study.to_dict(), "faithfulness": [test.to_dict() for test in tests]})
    views = sample_views(models, clips, num_clips, salience=salience)
    for view in views:
        view.faithfulness = [row for test in tests for row in faithfulness_rows(test)]
    save_clip_figures(views, out)
    save_faithfulness_figures(tests, out)
    warnings = [*caveats(models, salience, tests=tests, clips=some_clips(clips)), *study.warnings[:5]]
    summary = _summarise_split(describe_source(models, salience), warnings, clips, study, tests, views)
    report = out / "report.html"
    write_report(report, title=f"Regions of interest: {run.name}", summary=summary, views=views)
    for sentence in warnings:
        warn(sentence)
    return report


def _summarise_split(
    sources: Sequence[str],
    warnings: Sequence[str],
    clips: HeldOutClips,
    study: RegionStudy,
    tests: Sequence[FaithfulnessStudy],
    views: Sequence[ClipView],
) -> ReportSummary:
    return ReportSummary(
        paragraphs=[
            *sources,
            f"{len(clips)} test clips; protocol {clips.protocol}.",
            *(describe_alignment(study.alignment) if study.alignment else ()),
            *describe_tests(tests),
        ],
        warnings=warnings,
        tables=[*region_tables(study), *(table for test in tests for table in faithfulness_tables(test))],
        figures=[*region_figures(study), *faithfulness_report_figures(tests), *disagreement_figures(views)],
    )


def check_salience(
    models: Mapping[str, TrainedModel], clips: HeldOutClips, salience: str, max_clips: int
) -> list[FaithfulnessStudy]:
    """Hold the salience of voice and face against its controls, each with the model that its curves come from."""
    main = models.get(FUSED) or next(iter(models.values()))
    sources = {m: models.get(m, main) for m in MODALITIES if m in models.get(m, main).modalities}
    return [
        study_faithfulness([FoldRuns([model], clips)], modality, [salience], max_clips=max_clips)
        for modality, model in sources.items()
    ]


def some_clips(clips: HeldOutClips, num_clips: int = 4) -> list[Clip]:
    """The first few, decoded."""
    return [clips.cache.load(row.clip_id) for row in clips.rows[:num_clips]]


def regions_by_clip(study: RegionStudy) -> dict[str, dict[str, list[Region]]]:
    """Clip -> modality -> regions."""
    return {c: {m: found[c] for m, found in study.regions.items() if c in found} for c in study.rows}


def export_regions(
    regions: Mapping[str, Mapping[str, Sequence[Region]]],
    durations: Mapping[str, float],
    out: Path,
    formats: Sequence[str],
    salience: str,
) -> None:
    """Files for the annotation tools that people use, in out/annotations."""
    for name in formats:
        write_regions(out / "annotations", regions, durations, format=name, source=salience)


def sample_views(
    models: Mapping[str, TrainedModel], clips: HeldOutClips, num_clips: int, *, salience: str = AUTO
) -> list[ClipView]:
    """A few clips in full: the emotions in turn, the first clip of each, whatever the model says of it."""
    by_emotion: dict[str, list[ClipRow]] = {}
    for row in clips.rows:
        by_emotion.setdefault(row.emotion, []).append(row)
    turns = [group[turn] for turn in range(num_clips) for group in by_emotion.values() if turn < len(group)]
    return [
        explain(
            models,
            clips.cache.load(row.clip_id),
            salience=salience,
            also=[name for name in ALSO if name != salience],
            media=clips.media(row),
            true_emotion=row.emotion,
            truth=clips.truth.get(row.clip_id),
            corpus=row.corpus,
            speaker=row.speaker,
        )
        for row in turns[:num_clips]
    ]


def region_tables(study: RegionStudy) -> list[ReportTable]:
    """Quality against the truth, where it is known, and how voice and face lie to each other."""
    tables = [region_table(study.localization)] if study.localization else []
    if study.lags:
        tables.append(lag_table(study.lags))
    return [*tables, *alignment_tables(study.alignment)] if study.alignment else tables


def region_figures(study: RegionStudy) -> list[ReportFigure]:
    """Planted lags against recovered ones, and alignment against what re-paired clips give."""
    figures = []
    if BOXES in study.lags:
        recovered = study.recovered_lag_s[BOXES]
        clip_ids = [c for c in study.planted_lag_s if np.isfinite(recovered[c])]
        figure = plot_lags(
            [study.planted_lag_s[c] for c in clip_ids],
            [recovered[c] for c in clip_ids],
            [study.rows[c].emotion for c in clip_ids],
        )
        figures.append(ReportFigure("Lag: planted and recovered", figure_png(figure)))
    if study.alignment and MAIN_NULL in study.alignment.nulls:
        figure = plot_nulls(study.alignment)
        caption = "Grey: the mean over clips in each permutation. Line: the clips as they are."
        figures.append(ReportFigure("Voice and face against re-paired clips", figure_png(figure), caption))
    return figures


def plot_nulls(study: AlignmentStudy) -> Figure:
    """The measures that reports show apart by emotion, each beside its null distribution under re-pairing."""
    test = study.nulls[MAIN_NULL]
    shown = {m: test.results[m] for m in STRATA if m in test.results}
    return plot_alignment_nulls(
        {m: result.observed for m, result in shown.items()},
        test.means,
        p_values={m: result.p_value for m, result in shown.items()},
        words={m: WORDS[m][0] for m in shown},
    )


def faithfulness_report_figures(tests: Sequence[FaithfulnessStudy]) -> list[ReportFigure]:
    """The answer's probability while the top moments go and come, for each modality and way to take them away."""
    return [
        ReportFigure(
            f"Faithfulness: {MODALITY_WORDS[test.modality]}, moments taken away ({operator})",
            figure_png(figure),
            "A faithful salience falls faster (left) and rises faster (right) than the controls, which are grey.",
        )
        for test in tests
        for operator, figure in faithfulness_figures(test).items()
    ]


def disagreement_figures(views: Sequence[ClipView]) -> list[ReportFigure]:
    """Voice against face along the clip in which they disagree longest, of those that are shown."""
    told = [(view, view.disagreement) for view in views if view.disagreement and view.disagreement.episodes]
    if not told:
        return []
    view, found = max(told, key=lambda pair: pair[1].share)
    return [
        ReportFigure(
            f"Where voice and face disagree: {view.clip_id}",
            figure_png(plot_disagreement(found, view.emotions)),
            "Jensen-Shannon divergence of what the two say at each moment; in the bands they point to different "
            f"emotions. Of the {len(views)} clips below the one that disagrees longest; the others' are in figures/.",
        )
    ]


def save_faithfulness_figures(tests: Sequence[FaithfulnessStudy], out: Path) -> None:
    """One PNG and one SVG for each modality and way to take moments away, under figures/."""
    for test in tests:
        for operator, figure in faithfulness_figures(test).items():
            save_everywhere(figure, out / "figures" / f"faithfulness_{test.modality}_{operator}")


def save_clip_figures(views: Sequence[ClipView], out: Path) -> None:
    """PNG and SVG of each clip under figures/, and of the disagreement of voice and face where both say something."""
    for view in views:
        save_everywhere(plot_clip(view), out / "figures" / view.clip_id)
        if view.disagreement is not None and len(view.disagreement.divergence):
            figure = plot_disagreement(view.disagreement, view.emotions)
            save_everywhere(figure, out / "figures" / f"{view.clip_id}_disagreement")


def save_everywhere(figure: Figure, path: Path) -> None:
    """For the screen and for print: PNG and SVG. The path has no suffix."""
    for suffix in (".png", ".svg"):
        save_figure(figure, path.with_name(path.name + suffix))
