"""What an ablation is to train: axes as written on a command line, the cells that they span, and their names."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

from avser.config import Config, FusionConfig, ModelConfig, TrainingConfig, load_config
from avser.errors import ConfigError
from avser.structures import AUDIO, FUSED, MODALITIES, VIDEO

MODALITY = "modality"
ALIASES: dict[str, tuple[str, ...]] = {
    MODALITY: ("model.modalities",),
    "fusion": ("model.fusion.kind",),
    "attention": ("model.attention.kind",),
    "weights": ("model.audio.backbone.weights", "model.video.backbone.weights"),
    "balance": ("training.balance",),
}
GIVEN = {AUDIO: f"[{AUDIO}]", VIDEO: f"[{VIDEO}]", FUSED: f"[{', '.join(MODALITIES)}]"}  # what `modality` stands for
# Keys that the grid itself sets, and how to ask for them.
NOT_AXES = {"seed": "--seeds", "data.fold": "--folds", "name": "name=...", "runs": "runs=..."}
LONGEST_NAME = 120  # of a folder; file systems allow 255 bytes


@dataclass(frozen=True)
class Axis:
    """One thing that is varied.

    Attributes:
        name: as it was asked for, an alias or a dotted key.
        values: as they were written.
    """

    name: str
    values: tuple[str, ...]

    def overrides(self, value: str) -> list[str]:
        """`key=value` for everything that the axis sets."""
        written = GIVEN[value] if self.name == MODALITY else value
        return [f"{key}={written}" for key in ALIASES.get(self.name, (self.name,))]


@dataclass(frozen=True)
class GridCell:
    """Combinations of values that make one and the same model, trained once.

    Attributes:
        settings: axis -> value; None where every value of the axis makes the same model.
        members: the combinations, each with one value an axis.
        config: of the first of them.
    """

    settings: Mapping[str, str | None]
    members: tuple[tuple[str, ...], ...]
    config: Config

    @property
    def name(self) -> str:
        """What it is called in tables and by --reference."""
        return ",".join(f"{axis}={value}" for axis, value in self.settings.items() if value is not None) or "all"

    @property
    def label(self) -> str:
        """The same without the names of axes whose values speak for themselves."""
        known = [(axis, value) for axis, value in self.settings.items() if value is not None]
        words = [value if axis in ALIASES else f"{axis.rpartition('.')[2]} {value}" for axis, value in known]
        return ", ".join(words) or "all"

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        words = re.sub(r"[,\s]+", "+", self.name.replace("[", "").replace("]", ""))
        is_whole = len(words) <= LONGEST_NAME and not re.search(r"[^\w.+=-]", words)
        words = re.sub(r"[^\w.+=-]+", "-", words).strip("-.")
        return words if is_whole else f"{words[:LONGEST_NAME]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.config.model.modalities)


# --- reading -----------------------------------------------------------------------------------------------------


def read_axes(texts: Sequence[str]) -> list[Axis]:
    """The axes of a command line, each KEY=V1,V2; commas in brackets, braces and quotes belong to a value.

    Raises:
        ConfigError: no values, a value twice, a key twice, or one that the grid itself sets.
    """
    axes: list[Axis] = []
    for text in texts:
        name, sign, rest = text.partition("=")
        values = tuple(split_values(rest))
        if not sign or not name or not all(values):
            raise ConfigError(f"--over {text}: write KEY=V1,V2, e.g. fusion=concat,gated or training.epochs=5,10")
        if len(set(values)) < len(values):
            raise ConfigError(f"--over {text}: every value once")
        if name in NOT_AXES:
            raise ConfigError(f"--over {text}: {name} is no axis; give {NOT_AXES[name]}")
        if name == MODALITY and (unknown := [value for value in values if value not in GIVEN]):
            raise ConfigError(f"--over {text}: {unknown[0]!r} is no modality; take of {', '.join(GIVEN)}")
        axes.append(Axis(name, values))
    keys = [key for axis in axes for key in ALIASES.get(axis.name, (axis.name,))]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ConfigError(f"--over: {', '.join(twice)} is varied twice; give all its values at once")
    return axes


def split_values(text: str) -> list[str]:
    """The parts between commas, without those inside brackets, braces and quotes.

    Raises:
        ConfigError: a bracket or quote that is not closed.
    """
    parts, open_ones, quote = [""], [], ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "[{(":
            open_ones.append(sign)
        elif sign in "]})":
            if not open_ones or open_ones.pop() + sign not in ("[]", "{}", "()"):
                raise ConfigError(f"{text}: {sign} closes nothing that is open")
        elif sign == "," and not open_ones:
            parts.append("")
            continue
        parts[-1] += sign
    if quote or open_ones:
        raise ConfigError(f"{text}: {quote or open_ones[-1]} is not closed (quote it for the shell)")
    return [part.strip() for part in parts]


def read_numbers(text: str, option: str) -> list[int]:
    """Numbers with commas between them.

    Raises:
        ConfigError: anything else, or one twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise ConfigError(f"{option} {text}: write numbers from 0 on, each once, e.g. 0,1,2")
    return [int(word) for word in words]


# --- cells -------------------------------------------------------------------------------------------------------


def plan_cells(config: Config, axes: Sequence[Axis]) -> list[GridCell]:
    """Every combination of values, those that make the same model as one cell.

    Raises:
        ConfigError: an unknown key, or a value that it does not take.
    """
    groups: dict[str, list[tuple[tuple[str, ...], Config]]] = {}
    for values in product(*(axis.values for axis in axes)):
        overrides = [text for axis, value in zip(axes, values, strict=True) for text in axis.overrides(value)]
        made = load_config(overrides, base=config)
        if len(made.model.modalities) < 2:
            made.training.balance = "none"  # nothing to balance; training would refuse
        groups.setdefault(repr(asdict(effective_config(made))), []).append((values, made))
    return [
        GridCell(
            dict(_settings(axes, [values for values, _ in group])), tuple(values for values, _ in group), group[0][1]
        )
        for group in groups.values()
    ]


def effective_config(config: Config) -> Config:
    """The configuration with the defaults in place of whatever its model never looks at.

    A model of one modality has no fusion, no branch for the other modality, and nothing to balance between the two;
    one that reads face features has no CNN for the face.
    """
    found = copy.deepcopy(config)
    model, training = found.model, found.training
    if model.system != "av_roi":  # what a published system reads is its own affair
        return found
    if model.video.num_features:  # a table of face features instead of pictures
        model.video.backbone, model.video.grid = ModelConfig().video.backbone, ModelConfig().video.grid
    if len(model.modalities) > 1:
        return found
    model.fusion = FusionConfig()
    for modality in set(MODALITIES) - set(model.modalities):
        setattr(model, modality, getattr(ModelConfig(), modality))
    plain = TrainingConfig()
    for key in vars(plain):
        if key == "unimodal_loss" or key.startswith("balance"):
            setattr(training, key, getattr(plain, key))
    return found


def find_cell(cells: Sequence[GridCell], axes: Sequence[Axis], text: str) -> GridCell:
    """The cell that a text like "modality=fused,fusion=concat" names; axes that do not matter may be left out.

    Raises:
        ConfigError: it names none, or several.
    """
    wanted = dict(part.partition("=")[::2] for part in split_values(text))
    found = [
        cell
        for cell in cells
        if text in (cell.name, cell.folder)
        or any(wanted.items() <= dict(zip([a.name for a in axes], m, strict=True)).items() for m in cell.members)
    ]
    exact = [cell for cell in found if text in (cell.name, cell.folder)]
    if len(exact or found) != 1:
        which = "names several cells" if found else "names no cell"
        known = "\n".join(f"  {cell.name}" for cell in found or cells)
        raise ConfigError(f"--reference {text}: {which}; take one of\n{known}")
    return (exact or found)[0]


def default_reference(cells: Sequence[GridCell], config: Config) -> GridCell:
    """The cell of the configuration as it stands, where it is one of the grid's; else the first."""
    own = effective_config(config)
    return next((cell for cell in cells if effective_config(cell.config) == own), cells[0])


def partners(cells: Sequence[GridCell], axes: Sequence[Axis], fused: GridCell) -> dict[str, GridCell] | None:
    """The cells of each single modality that share every other value with a fused one; None if one is missing."""
    place = next((i for i, axis in enumerate(axes) if axis.name in (MODALITY, *ALIASES[MODALITY])), None)
    if place is None or set(fused.modalities) != set(MODALITIES):
        return None
    others = {member[:place] + member[place + 1 :] for member in fused.members}
    found: dict[str, GridCell] = {}
    for cell in cells:
        if len(cell.modalities) == 1 and others & {m[:place] + m[place + 1 :] for m in cell.members}:
            found.setdefault(cell.modalities[0], cell)
    return found if set(found) == set(MODALITIES) else None


def _settings(axes: Sequence[Axis], members: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, str | None]]:
    for axis, column in zip(axes, zip(*members, strict=True), strict=True):
        values = list(dict.fromkeys(column))
        is_free = len(values) > 1 and len(values) == len(axis.values)
        yield axis.name, None if is_free else "|".join(values)
