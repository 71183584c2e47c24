"""Which systems export, and how far their graphs are from PyTorch: `python -m tools.export_table [SYSTEM ...]`.

Each system is built as its configuration says, with random weights, counted features and read-outs solved on noise, and
asked for clips from 0.3 s to 12 s, alone and padded to each other, some without a voice or a face. With --page FILE.md
the table goes between <!-- board:exports --> and <!-- end:exports --> of that page as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from avser.cli.printing import print_table
from avser.config import Config, load_config
from avser.deployment.export import write_graph
from avser.deployment.graph import probe_batch
from avser.deployment.parity import measure_parity
from avser.deployment.runtime import load_onnx
from avser.errors import AvserError, ConfigError
from avser.experiments.leaderboard.tables import find_place, insert_board
from avser.models.build import build_model
from avser.models.system import System
from avser.models.systems import SYSTEMS
from avser.roi.report.table_markdown import tables_markdown
from avser.roi.report.tables import Cell, ReportTable
from tools import tell

PLACE = "exports"  # of the marks in a page
EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
PROBES_S = ((0.3,), (3.3, 0.3, 1.0), (12.0, 7.7))
SMALL = ["media.crop_px=64", "media.fps=10"]
LOG_MELS = "model.options.audio_features=logmel3"
VOICE, FACE, BOTH = "model.modalities=[audio]", "model.modalities=[video]", "model.modalities=[audio,video]"
CAUSAL = ["model.causal=true", "model.audio.bidirectional=false", "model.video.bidirectional=false"]
# What a system is asked for beside its configuration as it stands, by name of the row.
VARIANTS: dict[str, dict[str, list[str]]] = {
    "av_roi": {"voice": [VOICE], "face": [FACE], "voice and face": [BOTH], "voice and face, causal": [BOTH, *CAUSAL]},
    "roi_att_lstm": {
        "voice": [VOICE],
        "voice, log-mels": [VOICE, LOG_MELS],
        **{
            f"face, {form}": [FACE, f"model.face_input={form}"]
            for form in ("crops", "landmarks", "blendshapes", "features")
        },
        "voice, log-mels, and face": [BOTH, LOG_MELS],
    },
}
VARIANTS["roi_lstm"] = VARIANTS["roi_att_lstm"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="default: all")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="puts the table there, between the two marks")
    args = parser.parse_args(arguments)
    chosen = args.systems or ["av_roi", *SYSTEMS]
    if unknown := set(chosen) - {"av_roi", *SYSTEMS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; take av_roi, {', '.join(SYSTEMS)}")
    try:
        if args.page:
            find_place(args.page, PLACE)  # before minutes are spent
        table = export_table([(name, what, *try_export(name, extra)) for name, what, extra in cases(chosen)])
        if args.page:
            insert_board(args.page, PLACE, tables_markdown([table]))
    except AvserError as error:
        return tell(error)
    print_table(table)
    return 0


def export_table(found: Sequence[tuple[str, str, str, str]]) -> ReportTable:
    """(system, what was asked of it, largest difference, why not) as a table; each reason once, as a numbered note."""
    reasons = list(dict.fromkeys(why for *_, why in found if why))
    rows: list[list[Cell]] = [
        [name, what, difference or f"none, see {reasons.index(why) + 1}"] for name, what, difference, why in found
    ]
    return ReportTable(
        "Export to ONNX",
        ["system", "reads", "largest difference"],
        rows,
        "Between onnxruntime and PyTorch over logits, probabilities, attention and evidence, relative to 1 or the "
        "value, whichever is larger; clips of noise from 0.3 s to 12 s."
        + (" Where there is none, the system cannot be exported:" if reasons else ""),
        "\n".join(f"{number}. {reason}." for number, reason in enumerate(reasons, start=1)),
    )


def cases(systems: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(system, what is asked of it, overrides)"""
    for name in systems:
        for what, overrides in VARIANTS.get(name, {"": []}).items():
            yield name, what, overrides


def try_export(name: str, overrides: Sequence[str]) -> tuple[str, str]:
    """The largest difference between graph and PyTorch, or why there is no graph."""
    config = load_config([name, *SMALL, *overrides])
    model = ready_model(config)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        try:
            write_graph(model, config, EMOTIONS, path)
            return f"{measure_parity(model, load_onnx(path).network, config, PROBES_S):.1e}", ""
        except ConfigError as error:
            return "", str(error).removeprefix(f"{name} cannot be exported: ")


def ready_model(config: Config) -> System:
    """A system with random weights, after what it counts and solves for before it is used."""
    torch.manual_seed(0)
    model = build_model(config.model, EMOTIONS, sample_rate_hz=config.media.sample_rate_hz, pretrained=False).eval()
    batch = replace(probe_batch(config, (1.0, 0.8, 1.3, 0.6)), labels=torch.arange(4))
    with torch.no_grad():
        model.prepare([batch])
        model.enter_stage(0)
        model.fit_readout([batch])
    model.enter_stage(model.num_stages)
    return model.eval()


if __name__ == "__main__":
    sys.exit(main())
