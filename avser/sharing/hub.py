"""A run handed on: the three files of a shared model in a folder, and that folder on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from avser.config import config_to_yaml
from avser.errors import AvserError, ConfigError
from avser.sharing.card import build_card
from avser.sharing.facts import RunFacts, read_facts
from avser.training.checkpoint import MODEL_FILE, load_trained, save_model, write_text
from avser.training.shared_model import CARD_FILE, CONFIG_FILE, HUB_NAME, SHARED_FILES, TOKEN_ADVICE, shared_config


@dataclass
class Shared:
    """What was handed on.

    Attributes:
        place: folder, or address of the commit on the hub.
        revision: commit that pins the model; empty for a folder.
        warnings: what its card cannot tell.
    """

    place: str
    revision: str = ""
    warnings: list[str] = field(default_factory=list)


def write_shared(
    run: Path,
    folder: Path,
    name: str,
    *,
    licence: str = "",
    manifest: Path | None = None,
    regions: Path | None = None,
) -> Shared:
    """model.safetensors, config.yaml and README.md of a finished run; `avser.load_model` reads the folder.

    Args:
        folder: new, empty, or one with nothing but these files.
        name: by which the card calls the model.
        licence: of the weights, an identifier of the hub; empty: the card says that there is none.
        manifest, regions: as `read_facts`.

    Raises:
        CheckpointError: not a finished run.
        ConfigError: the folder holds something else, which would be taken for a part of the model.
    """
    others = sorted(path.name for path in folder.iterdir() if path.name not in SHARED_FILES) if folder.is_dir() else []
    if others or folder.is_file():
        raise ConfigError(f"{folder}: holds {', '.join(others[:3]) or 'a file'}; give a new folder")
    facts = read_facts(run, manifest=manifest, regions=regions)
    model, config, emotions = load_trained(run / MODEL_FILE)
    cleaned = shared_config(config)
    save_model(folder / MODEL_FILE, model, cleaned, emotions)
    write_text(folder / CONFIG_FILE, config_to_yaml(cleaned))
    write_text(folder / CARD_FILE, str(build_card(facts, name, licence=licence)))
    return Shared(str(folder), warnings=_all_warnings(facts, licence))


def push(
    run: Path,
    name: str,
    *,
    public: bool = False,
    revision: str | None = None,
    licence: str = "",
    manifest: Path | None = None,
    regions: Path | None = None,
) -> Shared:
    """Put a finished run on the hub as ORG/NAME, in one commit of the three files; nothing else of the run is sent.

    Args:
        public: everybody may see a repository that is made now; an existing one stays as visible as it is.
        revision: branch to commit to; it is made where it does not exist. None: main.
        licence, manifest, regions: as `write_shared`.

    Raises:
        ConfigError: the name is none, or there is no token.
        AvserError: the hub refused, or could not be reached.
    """
    if not HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: a model of the hub is called ORG/NAME, e.g. my-lab/ravdess-voice")
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = get_token()
    if not token:
        raise ConfigError(f"no token of the hub was found, and without one nothing can be pushed: {TOKEN_ADVICE}")
    with tempfile.TemporaryDirectory() as staging:
        folder = Path(staging)
        shared = write_shared(run, folder, name, licence=licence, manifest=manifest, regions=regions)
        api = HfApi(token=token, library_name="avser")
        try:
            api.create_repo(name, private=not public, exist_ok=True)
            if revision:
                api.create_branch(name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                allow_patterns=list(SHARED_FILES),
                commit_message="Model, configuration and card, written by avser",
                revision=revision,
            )
        except HfHubHTTPError as error:
            raise AvserError(_refusal(name, error)) from error
        except Exception as error:  # huggingface_hub lets those of its HTTP library through, whichever that is
            raise AvserError(
                f"{name}: the hub could not be reached ({type(error).__name__}: {error}); nothing was pushed. "
                "--folder DIR writes the same files here"
            ) from error
    return Shared(str(commit.commit_url), commit.oid, shared.warnings)


def _all_warnings(facts: RunFacts, licence: str) -> list[str]:
    found = list(facts.warnings)
    if not licence:
        found.append("the card names no licence of the weights, so that nobody may use them; give one by --licence")
    if facts.study is None:
        found.append("the card says that the regions were not measured; --regions DIR takes what `avser roi` wrote")
    return found


def _refusal(name: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if status == 401:
        return f"{name}: the hub does not take the token ({reason}); {TOKEN_ADVICE}"
    if status == 403:
        return f"{name}: the token may not write to {name.partition('/')[0]} ({reason}); it needs the right to write"
    return f"{name}: the hub refused ({reason})"
