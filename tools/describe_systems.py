"""Every system on one page, docs/SYSTEMS.md: `python -m tools.describe_systems [--board leaderboard.json]`.

What is a paper's and what is a choice of ours is said by each system's module, and taken from there; parameters, steps
and reach in time are measured here; results come from a leaderboard.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from avser.config import find_config, load_config
from avser.models.build import build_model
from avser.models.system import System
from avser.models.systems import SYSTEMS
from avser.models.timing import SequenceOf, Timing, measure_timing, probe_clip
from avser.roi.salience.curves import weighs_alike
from tools.published import PUBLISHED

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
FACE_PX = 112
WINDOW_S = 0.1  # resolution of reach; finer ones take hours for the largest networks
# Members of an ensemble are alike in time: two of them are measured.
MEASURED_AS = {name: ["model.options.num_members=2"] for name in ("acrnn_bagging", "acrnn_redag", "acrnn_augag")}
HEAD = """# The systems

Every system has a configuration of its name: `avser train <system> <corpus>`. All of them read the same batches and
give the same output, so that training, evaluation, prediction and regions of interest work alike.

Parameters are counted for four emotions, pretrained parts included. **Step** is the time from one element of the
sequence to the next, **reach** the stretch of the clip that can change one element noticeably, both measured by
changing 0.1 s of a clip of 4 s at a time, not declared (a reach of 4 s: the whole clip). **Moments** are what regions
of interest are read from: the attention, or where all steps weigh alike, what each adds to the verdict; a network that
listens to its last state alone has none. Published numbers are the papers', on other data, and often under protocols
that let the test choose; they stand beside measured ones for orientation and are no comparison.
"""


@dataclass
class Described:
    """A system as its configuration builds it, and what was measured of it."""

    name: str
    model: System
    modalities: list[str]
    timings: dict[str, Timing]
    moments: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", type=Path, action="append", default=[], help="leaderboard.json; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/SYSTEMS.md"))
    chosen = parser.parse_args(arguments)
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in chosen.board]
    command = " ".join(["python -m tools.describe_systems", *(f"--board {path}" for path in chosen.board)])
    systems = [measure(name) for name in ("av_roi", *sorted(SYSTEMS))]
    parts = [HEAD, f"Made by `{command}`.", overview(systems), *(section(system, boards) for system in systems)]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    print(f"{chosen.out}: {len(systems)} systems")
    return 0


def measure(name: str) -> Described:
    """The system as its configuration says, with weights at random: they decide what counts as a noticeable change."""
    print(name, file=sys.stderr)
    torch.manual_seed(0)
    config = load_config([name])
    rate_hz = config.media.sample_rate_hz
    model = build_model(config.model, EMOTIONS, sample_rate_hz=rate_hz, pretrained=False).eval()
    part = load_config([name, *MEASURED_AS.get(name, [])])
    probed = build_model(part.model, EMOTIONS, sample_rate_hz=rate_hz, pretrained=False).eval()
    timings, moments = {}, {}
    for modality in config.model.modalities:
        branch = SequenceOf(probed, modality).eval()
        timings[modality] = measure_timing(branch, modality, sample_rate_hz=rate_hz, size_px=FACE_PX, window_s=WINDOW_S)
        moments[modality] = say_moments(probed, modality, rate_hz)
    return Described(name, model, list(config.model.modalities), timings, moments)


def say_moments(model: System, modality: str, sample_rate_hz: int) -> str:
    """What the curve of a clip is read from, as seen in an answer."""
    clip = probe_clip(modality, sample_rate_hz=sample_rate_hz, size_px=FACE_PX)
    if clip.frames is not None:  # a face that moves, for attention to have a choice
        clip = replace(clip, frames=torch.randint_like(clip.frames, 256))
    with torch.no_grad():
        part = model(clip).attended[modality]
    weights = part.weights[0][part.mask[0]].double().numpy()
    if weights.max() > 0.99:
        return "none"
    if not weighs_alike(weights):
        return "attention"
    return "none" if part.step_logits is None else "contributions"


def overview(systems: Sequence[Described]) -> str:
    """One row a system and modality."""
    lines = [
        "| system | from | reads | parameters | step, s | reach, s | moments |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for system in systems:
        source = PUBLISHED[system.name][0].paper if PUBLISHED.get(system.name) else "ours"
        count = f"{sum(p.numel() for p in system.model.parameters()):,}"
        for i, (modality, timing) in enumerate(system.timings.items()):
            first = [f"[{system.name}](#{system.name})", source] if i == 0 else ["", ""]
            measured = [f"{timing.step_s:.3f}", f"{timing.receptive_field_s:.2f}", system.moments[modality]]
            lines.append("| " + " | ".join([*first, modality, count if i == 0 else "", *measured]) + " |")
    return "\n".join(lines)


def section(system: Described, boards: Sequence[dict[str, Any]]) -> str:
    """What a system's module and configuration say, and its numbers."""
    text = inspect.getdoc(inspect.getmodule(type(system.model))) or ""
    recipe = find_config(system.name).read_text(encoding="utf-8").strip()
    parts = [f"## {system.name}", text, f"```yaml\n{recipe}\n```", numbers(system.name, boards)]
    return "\n\n".join(part for part in parts if part)


def numbers(name: str, boards: Sequence[dict[str, Any]]) -> str:
    """Published and measured numbers, never in one table."""
    lines = []
    for published in PUBLISHED.get(name, ()):
        value = "not known" if published.value is None else f"{published.value:.2f}"
        remark = f" ({published.remark})" if published.remark else ""
        lines.append(f"- Published: {published.metric} {value}; {published.corpus}; {published.protocol}{remark}.")
    for board in boards:
        for row in board["rows"]:
            if row["system"].partition("-")[0] == name and row["uar"] is not None:
                uar, wa = (f"{row[k]:.1f} [{row[f'{k}_low']:.1f}, {row[f'{k}_high']:.1f}]" for k in ("uar", "wa"))
                lines.append(
                    f"- Measured, `{row['system']}`: UAR {uar}, WA {wa}; {row['corpus']}, {row['protocol']}, folds "
                    f"{row['folds']}, seeds {row['seeds']}; {row['kind']}."
                )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
