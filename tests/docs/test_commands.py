"""Every command line in the pages is one that avser has, with options that it has."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import io
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

import avser as avser_package
from avser.config import Config, list_configs, load_config
from avser.config_check import dotted_keys
from avser.errors import ConfigError
from tests.docs.pages import PAGES, PLACEHOLDER, ROOT, blocks, lines, mentions, named, spans

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FILES = {"model.safetensors"}  # of a run folder, named like a key
each_page = pytest.mark.parametrize("page", PAGES, ids=named)


@functools.cache
def avser() -> TyperGroup:
    from avser.cli.main import app

    return typer.main.get_command(app)  # type: ignore[return-value]


@functools.cache
def help_of(module: str) -> str:
    """What `python -m MODULE --help` prints; empty for a module that takes no arguments."""
    spec = importlib.util.find_spec(module)
    assert spec, f"python -m {module}: there is no such module"
    found = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations else module)
    printed = io.StringIO()
    door = getattr(found, "main", None)
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        if door is not None and door.__code__.co_argcount:
            door(["--help"])
    return printed.getvalue()


def fault_of(words: list[str], *, exact: bool) -> str:
    """What is wrong with a command, or an empty text.

    Args:
        exact: it is to be given as it stands, so its arguments are parsed too; else options alone are looked at.
    """
    if words[0] == "make":
        unknown = [word for word in words[1:] if word.islower() and word not in TARGETS]
        return f"no such target: {unknown}" if unknown else ""
    if words[0] == "avser":
        return fault_of_avser(words[1:], exact=exact)
    if not words[2].startswith(("preprocessing", "tools", "avser")) or PLACEHOLDER.search(words[2]):
        return ""
    if words[2] == "avser.cli":
        return fault_of_avser(words[3:], exact=exact)
    try:
        known = help_of(words[2])
    except AssertionError as error:
        return str(error)
    unknown = [word for word in options(words) if not re.search(rf"(?<![\w-]){word}(?![\w-])", known)]
    return f"{words[2]} has no {unknown}" if unknown else ""


def options(words: list[str]) -> list[str]:
    return [found for word in words if (found := word.strip("[]").partition("=")[0]).startswith("--")]


def fault_of_avser(words: list[str], *, exact: bool) -> str:
    command: Any = avser()
    names: list[str] = []
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"avser {' '.join([*names, name])}: there is no such command"
        command, names = command.commands[name], [*names, name]
    if isinstance(command, TyperGroup):
        return "" if words in ([], ["--help"]) else f"avser {' '.join(words)}: no subcommand"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    if unknown := set(options(words)) - known:
        return f"avser {' '.join(names)} has no {', '.join(sorted(unknown))}"
    if not exact or PLACEHOLDER.search(" ".join(words)) or "--help" in words:
        return ""
    try:
        context = command.make_context("avser", list(words))
    except typer.BadParameter.__mro__[1] as error:  # every misuse: click's UsageError, which typer has inside
        return f"avser {' '.join([*names, *words])}: {error.format_message()}"
    return fault_of_sources(context.params.get("sources") or [])


def fault_of_sources(sources: list[str]) -> str:
    """Named configurations and keys that do not exist; files of the reader's own are taken to be there."""
    own = [source for source in sources if not source.endswith(".yaml")]
    try:
        load_config(own)
    except ConfigError as error:
        return str(error)
    return ""


@each_page
def test_commands_can_be_given_as_they_stand(page: Path) -> None:
    wrong = [fault for words in lines(page) if (fault := fault_of(words, exact=True))]
    assert not wrong, "\n".join(wrong)


@each_page
def test_commands_in_sentences_have_their_options(page: Path) -> None:
    wrong = [fault for words in mentions(page) if (fault := fault_of(words, exact=False))]
    assert not wrong, "\n".join(wrong)


@each_page
def test_keys_of_the_configuration_exist(page: Path) -> None:
    schema = dict(dotted_keys(Config()))
    groups = {key.partition(".")[0] for key, value in schema.items() if is_dataclass(value)}
    found = {text.partition("=")[0] for text in spans(page)}
    keys = {key for key in found if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key) and key.partition(".")[0] in groups}
    unknown = {key for key in keys - schema.keys() if not key.startswith("model.options.")} - FILES
    assert not unknown, f"no such keys: {sorted(unknown)}"


@each_page
def test_python_in_pages_imports_what_exists(page: Path) -> None:
    gone = []
    for language, text in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("avser", "preprocessing", "tools")):
                module = importlib.import_module(str(node.module))
                gone += [f"{node.module}.{alias.name}" for alias in node.names if not hasattr(module, alias.name)]
    assert not gone, f"cannot be imported: {gone}"


def test_every_named_corpus_and_system_has_its_place() -> None:
    configs = {folder: [path.stem for path in found] for folder, found in list_configs().items()}
    corpora = (ROOT / "docs" / "each_corpus.md").read_text(encoding="utf-8")
    missing = [name for name in configs["corpora"] if f"preprocessing.{name} " not in corpora]
    systems = (ROOT / "docs" / "SYSTEMS.md").read_text(encoding="utf-8")
    missing += [name for name in configs["systems"] if f"\n## {name}\n" not in systems]
    assert not missing, f"without a section in docs/each_corpus.md or docs/SYSTEMS.md: {missing}"


def test_every_public_name_has_its_place_in_the_api() -> None:
    page = (ROOT / "docs" / "api" / "front_door.md").read_text(encoding="utf-8")
    public = set(avser_package.__all__) - {"AvserError", "__version__", "Config"}
    missing = [name for name in public if f"::: {getattr(avser_package, name).__module__}.{name}\n" not in page]
    assert not missing, f"without a place in docs/api/front_door.md: {missing}"
