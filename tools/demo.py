"""The whole path once, on a synthetic corpus with planted regions: render, cache, train, ablate, find regions, report.

    python -m tools.demo [key=value ...]

Prints the modality ablation and the quality of the regions, and leaves metrics.json, report.html and figures in
runs/demo. The configuration is configs/experiments/demo.yaml.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from avser.cli.printing import print_table
from avser.config import Config, load_config
from avser.data.cache import build_cache
from avser.data.manifest import read_manifest
from avser.errors import AvserError
from avser.experiments.ablation.modalities import ModalityAblation, ablate_modalities, ablation_table
from avser.experiments.alignment.words import describe_alignment
from avser.experiments.faithfulness.results import FaithfulnessStudy
from avser.experiments.faithfulness.tables import faithfulness_tables
from avser.experiments.held_out import HeldOutClips, load_test_clips
from avser.experiments.regions.caveats import caveats, describe_source, describe_tests
from avser.experiments.regions.report import (
    check_salience,
    region_figures,
    region_tables,
    sample_views,
    save_clip_figures,
    some_clips,
)
from avser.experiments.regions.study import RegionStudy, study_regions, write_tables
from avser.inference import TrainedModel, load_models
from avser.roi.report.page import ReportFigure, ReportSummary, write_report
from avser.roi.report.plots import figure_png, plot_ablation, save_figure
from avser.roi.report.view import ClipView
from avser.roi.salience.sources import AUTO
from avser.structures import AUDIO, FUSED, VIDEO
from avser.training.checkpoint import write_json
from preprocessing.synthetic.corpus import Settings, write_corpus

LOG = Console(stderr=True)
AUROC_AIM = 0.80
NUM_TESTED = 16  # clips on which the salience is held against its controls
BARS = {"fused_audio": "both, given\nthe voice only", "fused_video": "both, given\nthe face only"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to configs/experiments/demo.yaml")
    parser.add_argument("--speakers", type=int, default=18, help="default: %(default)s")
    parser.add_argument("--clips-per-emotion", type=int, default=5, help="of each speaker; default: %(default)s")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    try:
        config = load_config(["demo", *args.overrides])
        settings = Settings(args.speakers, args.clips_per_emotion, config.seed)
        missed = run_demo(config, settings, workers=args.workers)
    except AvserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for sentence in missed:
        print(f"goal missed: {sentence}", file=sys.stderr)
    return 1 if missed else 0


def run_demo(config: Config, settings: Settings, *, workers: int) -> list[str]:
    """Everything from rendering to the report; returns the goals that were missed."""
    folder, seconds = Path(config.runs) / config.name, dict[str, float]()
    with _stage("1/5 rendering talking faces with planted regions", seconds):
        manifest_path = Path(config.data.manifest)
        _render(manifest_path.parent, settings, workers)
    with _stage("2/5 caching voices and face crops", seconds):
        shutil.rmtree(config.data.cache, ignore_errors=True)  # an earlier demo may have had other settings
        report = build_cache(read_manifest(manifest_path), Path(config.data.cache), config.media, workers=workers)
        if report.failures:
            raise AvserError(f"{len(report.failures)} clips could not be cached, first {report.failures[0]}")
    with _stage("3/5 training three models: voice, face, both", seconds):
        ablation = ablate_modalities(config, overwrite=True)
    with _stage("4/5 finding the regions of the test clips", seconds):
        models = load_models(folder)
        clips = load_test_clips(models)
        study = study_regions(models, clips, clips.truth)
        write_tables(study, folder)
        tests = check_salience(models, clips, AUTO, max_clips=NUM_TESTED)
    with _stage("5/5 drawing figures and report", seconds):
        views = sample_views(models, clips, num_clips=len(config.data.emotions))
        save_clip_figures(views, folder)
        write_demo_report(folder, models, ablation, study, tests, clips, views)

    metrics = describe(ablation, study, seconds) | {"faithfulness": [test.to_dict() for test in tests]}
    write_json(folder / "metrics.json", metrics)
    for table in (ablation_table(ablation), *region_tables(study)):
        print_table(table)
    print(f"report: {folder / 'report.html'}   ({sum(seconds.values()):.0f} s)")
    return missed_goals(ablation, study)


def describe(ablation: ModalityAblation, study: RegionStudy, seconds: dict[str, float]) -> dict[str, Any]:
    """What metrics.json holds: the ablation, the AUROC of each modality and the lag error, with their protocol."""
    return {
        "protocol": ablation.protocol,
        "split_fingerprint": ablation.split_fingerprint,
        "seed": ablation.seed,
        "ablation": {row.name: row.to_dict() for row in ablation.rows},
        "auroc": {modality: asdict(scores.auroc) for modality, scores in study.localization.items()},
        "lag_error_s": {name: asdict(scores.median_error_s) for name, scores in study.lags.items()},
        "regions": study.to_dict(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def missed_goals(ablation: ModalityAblation, study: RegionStudy) -> list[str]:
    """What the demo promises and this run did not keep."""
    missed = []
    fused = ablation[FUSED].scores.uar.value
    for name in (AUDIO, VIDEO):
        alone = ablation[name].scores.uar.value
        if fused <= alone:
            missed.append(f"fused UAR {fused:.1f} does not beat {name} alone, {alone:.1f}")
        auroc = study.localization[name].auroc.value
        if auroc < AUROC_AIM:
            missed.append(f"{name}: frame AUROC {auroc:.3f} of the regions is below {AUROC_AIM:.2f}")
    return missed


def write_demo_report(
    folder: Path,
    models: Mapping[str, TrainedModel],
    ablation: ModalityAblation,
    study: RegionStudy,
    tests: Sequence[FaithfulnessStudy],
    clips: HeldOutClips,
    views: Sequence[ClipView],
) -> None:
    chance = 100 / len(ablation.rows[0].scores.recall)
    figure = plot_ablation({BARS.get(row.name, row.name): row.scores.uar for row in ablation.rows}, chance)
    save_figure(figure, folder / "figures" / "ablation.png")
    summary = ReportSummary(
        paragraphs=[
            "Synthetic talking faces and voices, neutral but for one emotional stretch in the voice and one in the "
            "face. Three models learned the emotion of whole clips; nobody told them where it is.",
            "Curves and regions of the voice come from the model that only hears, those of the face from the model "
            "that only sees.",
            *describe_source(models),
            *(describe_alignment(study.alignment) if study.alignment else ()),
            *describe_tests(tests),
        ],
        warnings=caveats(models, AUTO, tests=tests, clips=some_clips(clips)),
        tables=[
            ablation_table(ablation),
            *region_tables(study),
            *(table for test in tests for table in faithfulness_tables(test)),
        ],
        figures=[ReportFigure("Voice, face, both", figure_png(figure)), *region_figures(study)],
    )
    write_report(folder / "report.html", title="avser demo", summary=summary, views=views)


def _render(folder: Path, settings: Settings, workers: int) -> None:
    """Render the corpus unless the same one is there already."""
    with Progress(console=LOG) as bar:
        task = bar.add_task("rendering", total=settings.num_clips)
        write_corpus(folder, settings, workers, lambda done, _: bar.update(task, completed=done))


@contextmanager
def _stage(title: str, seconds: dict[str, float]) -> Iterator[None]:
    LOG.rule(title, align="left")
    begun = time.perf_counter()
    yield
    seconds[title.split(" ", 1)[1]] = time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
