"""`avser roi`: regions of one clip, or of a run's whole test split, as tables, figures and one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avser.data.cache import ClipCache
from avser.data.manifest import ClipRow, read_manifest
from avser.evaluation.statistics import clustered_interval
from avser.experiments.region_study import BEST_CORRELATION, RegionStudy, Truth, study_regions, write_tables
from avser.experiments.unseen import check_unseen
from avser.inference import TrainedModel, explain, load_models
from avser.models.timing import measure_timing
from avser.roi.plots import MODALITY_WORDS, figure_png, plot_clip, plot_lags, save_figure
from avser.roi.report import ReportFigure, ReportSummary, write_report
from avser.roi.tables import Cell, ReportTable, lag_table, region_table
from avser.roi.view import ClipView
from avser.structures import FUSED, MODALITIES, Clip
from avser.training.run_data import load_data


def report_clip(run: Path, clip: Path, out: Path) -> Path:
    """Report on one media file; returns the path of report.html.

    Args:
        run: a run folder, or a folder of runs "audio", "video" and "fused".
    """
    models = load_models(run)
    view = explain(models, clip)
    save_clip_figures([view], out)
    summary = ReportSummary(paragraphs=describe_source(models), warnings=caveats(models))
    report = out / "report.html"
    write_report(report, title=f"Regions of interest: {view.clip_id}", summary=summary, views=[view])
    return report


def report_split(run: Path, out: Path, *, num_clips: int = 6) -> Path:
    """Report on the whole test split of a run; returns the path of report.html.

    Args:
        num_clips: how many clips are shown one by one; the tables are of all.
    """
    models = load_models(run)
    clips = load_test_clips(models)
    study = study_regions(models, clips, clips.truth)
    out.mkdir(parents=True, exist_ok=True)
    write_tables(study, out)
    views = sample_views(models, clips, num_clips)
    save_clip_figures(views, out)
    summary = ReportSummary(
        paragraphs=[*describe_source(models), f"{len(clips)} test clips; protocol {clips.protocol}."],
        warnings=caveats(models) + study.warnings[:5],
        tables=region_tables(study),
        figures=region_figures(study),
    )
    report = out / "report.html"
    write_report(report, title=f"Regions of interest: {run.name}", summary=summary, views=views)
    return report


@dataclass
class HeldOutClips:
    """The test clips of a split, decoded one by one as they are asked for.

    Iterating gives (row, clip) pairs.

    Attributes:
        truth: clip -> modality -> known regions.
        protocol: of the split, and what it keeps apart.
    """

    rows: list[ClipRow]
    cache: ClipCache
    truth: Truth
    protocol: str

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[ClipRow, Clip]]:
        return ((row, self.cache.load(row.clip_id)) for row in self.rows)


def load_test_clips(models: Mapping[str, TrainedModel]) -> HeldOutClips:
    """The test clips that the models were never trained on.

    Raises:
        CheckpointError: one of the models has seen some of these clips in training.
    """
    config = (models.get(FUSED) or next(iter(models.values()))).config
    data = load_data(config)
    for model in models.values():
        check_unseen(model.folder, data.split.test)
    return HeldOutClips(
        rows=[data.rows[clip_id] for clip_id in data.split.test],
        cache=ClipCache(Path(config.data.cache), config.media),
        truth=read_manifest(config.data.manifest).regions,
        protocol=data.split.describe(),
    )


def sample_views(models: Mapping[str, TrainedModel], clips: HeldOutClips, num_clips: int) -> list[ClipView]:
    """A few clips in full: the emotions in turn, the first clip of each, whatever the model says of it."""
    by_emotion: dict[str, list[ClipRow]] = {}
    for row in clips.rows:
        by_emotion.setdefault(row.emotion, []).append(row)
    turns = [group[turn] for turn in range(num_clips) for group in by_emotion.values() if turn < len(group)]
    return [
        explain(
            models,
            clips.cache.load(row.clip_id),
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
    if study.alignment:
        tables.append(_alignment_table(study))
    return tables


def _alignment_table(study: RegionStudy) -> ReportTable:
    speakers = [study.rows[clip_id].speaker for clip_id in study.alignment]
    measures = {
        "correlation at lag 0": "r0",
        "best correlation within half a second": "r_max",
        "lag of the best correlation, s (above 0: the face leads)": "lag_s",
        "Jensen-Shannon divergence (0 same, 1 disjoint)": "js",
        "Wasserstein distance, s": "w1_s",
        "overlap of the top 20 % of the time": "iou",
    }
    rows: list[list[Cell]] = []
    for label, name in measures.items():
        values = np.array([getattr(found, name) for found in study.alignment.values()])
        rows.append([label, clustered_interval(values, speakers, lambda x: float(np.nanmean(x)))])
    return ReportTable(
        "How voice and face lie to each other",
        ["measure", "mean over clips"],
        rows,
        f"{len(study.alignment)} clips; intervals 95 %, clustered by speaker. Without a null model these say how the "
        "curves lie to each other, not that they do so more than chance.",
    )


def region_figures(study: RegionStudy) -> list[ReportFigure]:
    if BEST_CORRELATION not in study.lags:
        return []
    recovered = study.recovered_lag_s[BEST_CORRELATION]
    clip_ids = [c for c in study.planted_lag_s if np.isfinite(recovered[c])]
    figure = plot_lags(
        [study.planted_lag_s[c] for c in clip_ids],
        [recovered[c] for c in clip_ids],
        [study.rows[c].emotion for c in clip_ids],
    )
    return [ReportFigure("Lag: planted and recovered", figure_png(figure))]


def save_clip_figures(views: Sequence[ClipView], out: Path) -> None:
    """One PNG and one SVG a clip, under figures/."""
    for view in views:
        figure = plot_clip(view)
        for suffix in (".png", ".svg"):
            save_figure(figure, out / "figures" / f"{view.clip_id}{suffix}")


def describe_source(models: Mapping[str, TrainedModel]) -> list[str]:
    """Which models the curves come from, and how finely those can tell moments apart."""
    names = ", ".join(f"{name}: {model.folder}" for name, model in models.items())
    sentences = [f"Attention curves and regions of interest from {names}."]
    for modality in MODALITIES:
        source = models.get(modality) or models.get(FUSED)
        if source is not None and modality in source.modalities:
            sentences.append(_describe_timing(source, modality))
    return sentences


def _describe_timing(source: TrainedModel, modality: str) -> str:
    media = source.config.media
    branch = source.network.get_submodule(f"branches.{modality}").to("cpu")
    timing = measure_timing(
        branch, modality, sample_rate_hz=media.sample_rate_hz, fps=media.fps or 30.0, size_px=media.crop_px
    )
    branch.to(source.device)
    return (
        f"The {MODALITY_WORDS[modality]} has a step every {1000 * timing.step_s:.0f} ms; one step is changed by a "
        f"stretch of {timing.receptive_field_s:.2f} s, whose middle lies {timing.delay_s:+.3f} s from it (measured)."
    )


def caveats(models: Mapping[str, TrainedModel]) -> list[str]:
    """What a reader must know before believing the curves."""
    found = ["Attention shows where the model looked, not why; it has not been tested for faithfulness here."]
    main = models.get(FUSED)
    if main is not None and len(main.modalities) > 1 and not all(m in models for m in MODALITIES):
        found.append(
            "Both curves come from one fused model, whose losses were shared; for evidence that voice and face agree, "
            "compare models trained on one modality each."
        )
    for name, model in models.items():
        for modality in model.modalities:
            temporal = getattr(model.config.model, modality).temporal
            if temporal in ("gru", "lstm"):
                found.append(
                    f"The {MODALITY_WORDS[modality]} branch of {name} is recurrent ({temporal}): every step has seen "
                    "the whole clip, so a peak need not mean evidence at that moment."
                )
    return found
