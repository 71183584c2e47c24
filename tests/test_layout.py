"""The house stands as described: the file tree, the direction of imports, and what must stay light, safe and named."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("avser", "preprocessing", "tools")

# What each unit of avser may import of avser, beside itself; lowest floor first. A file of its own may have a line of
# its own. Configuration stops at the builders: models and roi receive plain values, media too.
CONTRACTS = {"errors", "structures"}
LIBRARY = CONTRACTS | {"version", "config", "features", "evaluation", "media", "models", "roi", "data", "training"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "structures": set(),
    "version": set(),
    "config_check": {"errors"},
    "config": {"errors", "config_check"},
    "features": CONTRACTS,
    "evaluation": CONTRACTS,
    "media": CONTRACTS,
    "models": CONTRACTS | {"features"},
    "models/build.py": CONTRACTS | {"features", "config"},
    "roi": CONTRACTS | {"features", "evaluation"},
    "roi/salience/face_places.py": CONTRACTS | {"features", "evaluation", "media"},
    "data": CONTRACTS | {"config", "media", "features"},
    "training": CONTRACTS | {"version", "config", "evaluation", "models", "data"},
    "inference": LIBRARY,
    "explanation": LIBRARY | {"inference"},
    "experiments": LIBRARY | {"inference", "explanation"},
    "recordings": LIBRARY | {"inference", "explanation"},
    "live": LIBRARY | {"inference"},
    "deployment": LIBRARY | {"inference"},
    "sharing": LIBRARY | {"inference", "experiments"},
    "doctor": LIBRARY,
    "app": LIBRARY | {"inference", "explanation", "experiments", "recordings"},
    "cli": LIBRARY | {"inference", "experiments", "recordings", "live", "app", "sharing", "deployment", "doctor"},
    "__init__": {"version", "errors", "config", "inference", "explanation", "live", "recordings"},  # the shop window
}

# Which files may import a library that the rest of the house is kept apart from.
ONLY_IN = {
    # The tools decode, encode and look for faces in the ways that they compare with.
    "av": (
        *("avser/media/", "preprocessing/encoding.py"),
        *("tools/benchmark_media.py", "tools/measure_duplicates.py"),
    ),
    "cv2": (
        *("avser/media/", "preprocessing/encoding.py", "preprocessing/synthetic/"),
        *("tools/benchmark_media.py", "tools/benchmark_train.py"),
    ),
    "mediapipe": ("avser/media/", "tools/benchmark_media.py"),
    "omegaconf": ("avser/config.py",),
}
LATE_IMPORTS = {"import_module", "import_native", "__import__"}
SLOW = ("torch", "torchvision", "torchaudio", "timm", "accelerate", "mediapipe", "cv2", "scipy", "sklearn")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
UNPICKLERS = {"torch.load", "torch.hub.load_state_dict_from_url", "joblib.load", "pandas.read_pickle", "pd.read_pickle"}
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "misc"}


def sources(*folders: str) -> list[Path]:
    """Every Python file below the folders, relative to the checkout."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    """avser/roi/report/view.py -> avser.roi.report.view; avser/roi/__init__.py -> avser.roi"""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


ALL = sources(*TOP)
TREES = {path: parse(path) for path in ALL}
MODULES = {module_name(path): path for path in ALL}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of everything that a file imports anywhere in it, late and by name of a text included."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            inner = [f"{module}.{alias.name}" for alias in node.names]
            submodules = [name for name in inner if name in MODULES]
            yield from ((node.lineno, name) for name in submodules)
            if len(submodules) < len(inner):
                yield node.lineno, module
        elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in LATE_IMPORTS:
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from ((node.lineno, name) for name in names if isinstance(name, str))


def dotted(node: ast.expr) -> str:
    """The source of a name like torch.load; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unit_of(module: str) -> str:
    """avser.roi.report.view -> roi; avser -> __init__"""
    return (*module.split("."), "__init__")[1]


def fail_with(problems: list[str], advice: str) -> None:
    if problems:
        pytest.fail("\n".join([*problems, f"-> {advice}"]), pytrace=False)


# --- the README's tree -------------------------------------------------------------------------------------------


def readme_tree() -> dict[str, str]:
    """Path -> its line, from the block between the tree markers; two spaces of indentation a level."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree:begin -->\n+```\n(.*?)```\n+<!-- tree:end -->", readme, re.DOTALL)
    assert block, "README.md: no block ``` ... ``` between <!-- tree:begin --> and <!-- tree:end -->; put it back"
    entries: dict[str, str] = {}
    folders: list[str] = []
    for line in block[1].splitlines():
        name, _, text = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        assert depth <= len(folders), f"README.md, tree: {line!r} is indented deeper than any folder above it"
        path = "".join(folders[:depth]) + name
        assert path not in entries, f"README.md, tree: {path} is there twice; remove one"
        entries[path] = text.strip()
        if name.endswith("/"):
            folders[depth:] = [name]
    return entries


def test_every_file_is_in_the_readme_tree_with_a_line() -> None:
    tree = readme_tree()
    configs = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))
    missing = []
    for path in [*ALL, *configs]:
        # The line of a folder speaks for its __init__.py.
        places = [path.as_posix()] + ([f"{path.parent.as_posix()}/"] if path.name == "__init__.py" else [])
        if not any(tree.get(place) for place in places):
            missing.append(f"{path}: has no line in the file tree of README.md")
    fail_with(missing, "add the file there, with one line that says what it is for")


def test_the_readme_tree_holds_nothing_that_does_not_exist() -> None:
    gone = [
        path
        for path in readme_tree()
        if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())
    ]
    fail_with([f"README.md, tree: {path} does not exist" for path in gone], "take the line out, or correct the path")


def test_the_documents_name_files_that_exist() -> None:
    named = re.compile(r"\b(?:avser|preprocessing|tools|configs|tests)/[\w/]+\.(?:py|yaml|md|html)\b")
    gone = [
        f"{document}: names {path}, which does not exist"
        for document in (
            "README.md",
            "CONTRIBUTING.md",
            "preprocessing/README.md",
            "docs/CORPORA.md",
            "docs/BENCHMARKS.md",
        )
        for path in sorted(set(named.findall((ROOT / document).read_text(encoding="utf-8"))))
        if not (ROOT / path).is_file()
    ]
    fail_with(gone, "correct the path; the code that it stands for has moved")


# --- imports -----------------------------------------------------------------------------------------------------


def test_the_three_packages_import_in_one_direction() -> None:
    forbidden = {"avser": {"preprocessing", "tools"}, "preprocessing": {"tools"}, "tools": set()}
    wrong = [
        f"{path}:{line}: {path.parts[0]} imports {name}"
        for path in ALL
        for line, name in imports(path)
        if name.split(".")[0] in forbidden[path.parts[0]]
    ]
    fail_with(wrong, "imports run preprocessing -> avser <- tools (tools may use both); move what is shared down")


def test_inside_avser_files_import_only_lower_floors() -> None:
    wrong = []
    for path in sources("avser"):
        inside = path.relative_to("avser").as_posix()
        unit = unit_of(module_name(path))
        allowed = MAY_IMPORT.get(inside, MAY_IMPORT.get(unit, set())) | {unit}
        wrong += [
            f"{path}:{line}: imports {name}; allowed here: {', '.join(sorted(allowed - {unit})) or 'nothing of avser'}"
            for line, name in imports(path)
            if name.split(".")[0] == "avser" and unit_of(name) not in allowed
        ]
    fail_with(wrong, "pass the value in, or move the code to the floor that it belongs to (MAY_IMPORT in this file)")


def test_the_floors_name_what_is_there_and_have_no_circle() -> None:
    there = {unit_of(module_name(path)) for path in sources("avser")}
    files = {path.relative_to("avser").as_posix() for path in sources("avser")}
    problems = [f"avser.{unit} has no line in MAY_IMPORT" for unit in sorted(there - MAY_IMPORT.keys())]
    problems += [
        f"MAY_IMPORT names {name}, which does not exist"
        for name in sorted((MAY_IMPORT.keys() | set().union(*MAY_IMPORT.values())) - there - files)
    ]
    fail_with(problems, "give every part of avser one line in MAY_IMPORT of this file")
    TopologicalSorter({unit: allowed for unit, allowed in MAY_IMPORT.items() if "/" not in unit}).prepare()


def test_no_two_modules_import_each_other() -> None:
    graph = {name: {module for _, module in imports(path) if module in MODULES} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        pytest.fail(f"imports run in a circle: {circle}\n-> move what is shared into a file below both", pytrace=False)


def test_some_libraries_are_seen_by_one_place_only() -> None:
    wrong = [
        f"{path}:{line}: imports {name}, which only {' and '.join(ONLY_IN[library])} may"
        for path in ALL
        for line, name in imports(path)
        if (library := name.split(".")[0]) in ONLY_IN and not path.as_posix().startswith(ONLY_IN[library])
    ]
    fail_with(wrong, "call a function of that place instead, or add one there")


# --- light, safe, small ------------------------------------------------------------------------------------------

AVSER = "import avser"
HELP = "import sys; sys.argv = ['avser', '--help']; import avser.cli.main as c\ntry: c.main()\nexcept SystemExit: pass"


@pytest.mark.parametrize("code", [AVSER, HELP], ids=["import avser", "avser --help"])
def test_the_door_is_light(code: str) -> None:
    ask = f"{code}\nimport json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    slow = sorted(set(json.loads(found.stdout.splitlines()[-1])) & set(SLOW))
    fail_with([f"{slow} come in with it"] if slow else [], "import them inside the function that needs them")


def test_the_shop_window_is_small_and_true() -> None:
    ask = "import avser, json; [getattr(avser, n) for n in avser.__all__]; print(json.dumps(avser.__all__))"
    found = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"a name of avser.__all__ cannot be imported\n{found.stderr}"
    names = json.loads(found.stdout)
    assert len(names) <= 10, f"avser.__all__ has {len(names)} names, at most 10: import the others from their modules"


def test_every_module_says_what_it_is_for() -> None:
    mute = [f"{path}: no docstring" for path in ALL if not (ast.get_docstring(TREES[path]) or "").strip()]
    fail_with(mute, "open the file with one sentence that says what it is for")


def test_nothing_is_unpickled() -> None:
    wrong = []
    for path in sources("avser"):
        wrong += [f"{path}:{line}: imports {name}" for line, name in imports(path) if name.split(".")[0] in PICKLES]
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom):
                used = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                used = [dotted(node)]
            else:
                continue
            wrong += [f"{path}:{node.lineno}: uses {name}" for name in used if name in UNPICKLERS]
    fail_with(wrong, "a file from elsewhere must not run code: store tensors as safetensors, the rest as JSON or CSV")


def test_no_file_has_an_empty_name() -> None:
    wrong = [
        str(path)
        for path in ALL
        if any(EMPTY_NAMES & set(part.lower().split("_")) for part in path.with_suffix("").parts)
    ]
    fail_with(wrong, "name the file after what it does; utils, helpers and misc say nothing")


# --- packaging ---------------------------------------------------------------------------------------------------


def test_the_wheel_holds_every_package_and_every_config() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {module_name(path) for path in sources("avser") if path.name == "__init__.py"}
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    configs = {"avser." + ".".join(folder.parts) for folder in folders}
    expected, listed = packages | configs | {"avser.configs"}, set(settings["packages"])
    problems = [f"pyproject.toml: {name} is not in `packages`" for name in sorted(expected - listed)]
    problems += [f"pyproject.toml: `packages` names {name}, which does not exist" for name in sorted(listed - expected)]
    data = settings["package-data"]
    problems += [
        f"pyproject.toml: no *.yaml under {n} in `package-data`"
        for n in sorted(configs)
        if "*.yaml" not in data.get(n, [])
    ]
    fail_with(problems, "make the lists of [tool.setuptools] equal to what is on disk")


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in ALL}
    bare = [f"{folder}: no __init__.py" for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()]
    fail_with(bare, "add one with a sentence that says what the folder holds")


def test_every_requirement_has_both_ends() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [text for line in lines if (text := line.partition("#")[0].strip())]
    assert requirements
    open_ended = [text for text in requirements if not (">=" in text and re.search(r"<\d", text))]
    fail_with(
        [f"requirements.txt: {text}" for text in open_ended], "give the oldest tried version and a limit: name>=1.2,<2"
    )
