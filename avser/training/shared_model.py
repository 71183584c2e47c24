"""A model that was handed on: the three files that it is made of, what its configuration keeps, and fetching it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from avser.config import Config, ProtocolConfig, config_from_dict
from avser.errors import CheckpointError
from avser.training.checkpoint import MODEL_FILE

CONFIG_FILE, CARD_FILE = "config.yaml", "README.md"
SHARED_FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
TOKEN_ADVICE = (
    "make a token on https://huggingface.co/settings/tokens and run `hf auth login`, or put it into the environment "
    "variable HF_TOKEN"
)


def is_hub_name(name: str, *, is_pinned: bool = False) -> bool:
    """Whether a text is ORG/NAME of the hub and not a path: nothing of that name lies here, nor a folder ORG.

    A mistyped `runs/first` is thus a missing file, and never a question to the network.

    Args:
        is_pinned: it was named with a revision, which only the hub has: a folder ORG plays no part.
    """
    is_here = Path(name).exists() or (Path(name).parent.exists() and not is_pinned)
    return bool(HUB_NAME.fullmatch(name)) and not is_here


def fetch_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model of the hub: downloaded, or as it was when the hub could last be asked.

    Nothing but `SHARED_FILES` is fetched, whatever else the repository holds. Where it is kept says huggingface_hub
    (HF_HOME); HF_HUB_OFFLINE=1 asks nobody.

    Args:
        name: ORG/NAME.
        revision: a branch, a tag, or the 40 digits of a commit, which pins the model; None: what is there now.

    Raises:
        CheckpointError: no such model or revision, no right to it, or no answer and nothing kept.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionNotFoundError

    wanted = f"{name}@{revision}" if revision else name
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SHARED_FILES)))
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{wanted}: the model has no such branch, tag or commit") from error
    except HfHubHTTPError as error:
        raise CheckpointError(
            f"{wanted}: there is no such folder here, and the hub answered {_first_line(error)}. Mind the spelling; a "
            f"private or gated model needs the token of someone who may read it: {TOKEN_ADVICE}"
        ) from error
    except (HFValidationError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{wanted}: there is no such folder here, and it could not be fetched from the hub "
            f"({type(error).__name__}: {_first_line(error)}); it is not kept from an earlier time either. Without a "
            "network give the path of a folder with " + " and ".join(SHARED_FILES[:2])
        ) from error
    if not (folder / MODEL_FILE).is_file():
        raise CheckpointError(f"{wanted}: the repository holds no {MODEL_FILE}; it is no model of avser")
    return folder


def shared_config(config: Config) -> Config:
    """The configuration without what belongs to the machine and the people that a model was trained with.

    Paths of manifest, cache and split are dropped, those of pretrained weights cut to their last part; of the published
    protocols only the one that was followed is kept, without its lists of speakers. What the model is made of, and how
    it reads media, stays to the letter.
    """
    data = config.data
    followed = data.protocols.get(data.protocol)
    protocols = {data.protocol: _without_names(followed)} if followed else {}
    cleaned = replace(
        config,
        runs=Config().runs,
        media=replace(config.media, faces=replace(config.media.faces, model=None)),
        data=replace(data, manifest="", cache="", split_file="", protocols=protocols),
    )
    values = asdict(cleaned)
    values["model"] = _cut_paths(values["model"])
    return config_from_dict(values)


def _without_names(protocol: ProtocolConfig) -> ProtocolConfig:
    return replace(protocol, test=[], val=[], train=[])


def _cut_paths(value: Any) -> Any:
    """Every text that could be a path as its last part; no name of a system, backbone or layer has a slash."""
    if isinstance(value, dict):
        return {key: _cut_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut_paths(item) for item in value]
    if not isinstance(value, str) or not re.search(r"[/\\]", value):
        return value
    return PureWindowsPath(value).name or PurePosixPath(value).name


def _first_line(error: BaseException) -> str:
    """The first sentence of what may be a page."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".")[:200]
