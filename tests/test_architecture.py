"""The shape of the house: imports run one way, ground floor and server stand without torch, files stay small."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "vlkd_hub": ROOT / "vlkd_hub",
    "vlkd_training": ROOT / "training" / "vlkd_training",
    "vlkd_export": ROOT / "export" / "vlkd_export",
    "vlkd_serving": ROOT / "serving" / "vlkd_serving",
}
MAY_IMPORT = {
    "vlkd_hub": {"vlkd_hub"},
    "vlkd_training": {"vlkd_hub", "vlkd_training"},
    "vlkd_export": {"vlkd_hub", "vlkd_export"},
    "vlkd_serving": {"vlkd_hub", "vlkd_serving"},
    "demos": {"vlkd_serving"},
}
HEAVY = {"torch", "torchvision", "transformers", "timm"}
ABOVE_GROUND = ("vlkd_hub.models", "vlkd_hub.inference", "vlkd_hub.picture_cache")
MODEL_MAY_IMPORT = {"torch", "transformers", "timm"} | set(sys.stdlib_module_names)
MAX_LINES = 500

FILES = sorted(path for folder in (*SOURCES.values(), ROOT / "demos") for path in folder.rglob("*.py"))


def module_name(path: Path) -> str:
    """Dotted name, for example ``vlkd_hub.bundle``; scripts in demos are ``demos.NAME``."""
    home = next((folder.parent for folder in SOURCES.values() if path.is_relative_to(folder)), ROOT)
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def nodes(tree: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    """Nodes that run, less what only a type checker reads; with ``everywhere`` False only those that run at import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        yield from nodes(node, everywhere)


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Absolute dotted names that the file imports; `from a import b` is `a.b` where that is a module, else `a`."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def ids(path: Path) -> str:
    return module_name(path)


def test_the_walk_sees_the_packages() -> None:
    """Every other test here passes on an empty list, so the list must not be empty."""
    assert {name for name in SOURCES if name in MODULES} == set(SOURCES)
    assert "vlkd_hub.errors" in imports(ROOT / "vlkd_hub" / "bundle.py")


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_run_one_way(path: Path) -> None:
    """vlkd_hub knows no sibling; training, export and serving know only vlkd_hub; demos know only serving."""
    room = module_name(path).split(".")[0]
    own = tops(imports(path)) & {*MAY_IMPORT, "training", "export", "serving"}
    assert own <= MAY_IMPORT[room]


def test_no_import_loops() -> None:
    """Two modules that import each other at import time break as soon as somebody changes the order."""
    graph = {name: imports(path, everywhere=False) & MODULES.keys() - {name} for name, path in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def is_torch_free(name: str) -> bool:
    room = name.split(".")[0]
    return room in ("vlkd_serving", "demos") or (room == "vlkd_hub" and not name.startswith(ABOVE_GROUND))


TORCH_FREE = sorted(name for name in MODULES if is_torch_free(name))


@pytest.mark.parametrize("name", TORCH_FREE)
def test_ground_floor_and_serving_name_no_torch(name: str) -> None:
    """Not even inside a function: what serves must install and start without torch."""
    assert not tops(imports(MODULES[name])) & HEAVY


def test_ground_floor_and_serving_import_without_torch() -> None:
    """The same, as a process sees it: torch cannot be imported, and every module loads."""
    names = [name for name in TORCH_FREE if not name.startswith("demos")]
    program = f"""
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError("wall: " + name)
sys.meta_path.insert(0, Wall())
for name in {names!r}:
    importlib.import_module(name)
print(len([name for name in {names!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) == len(names)


MODEL_FILES = [path for path in FILES if path.parent.parent == ROOT / "vlkd_hub" / "models"]


@pytest.mark.parametrize("path", MODEL_FILES, ids=ids)
def test_model_folders_are_self_contained(path: Path) -> None:
    """The same files must work as remote code from a Hub repository, without this package."""
    own = module_name(path.parent / "__init__.py")
    foreign = {name for name in imports(path) if not f"{name}.".startswith(f"{own}.")}
    assert tops(foreign) <= MODEL_MAY_IMPORT
    absolute = [
        node.module
        for node in nodes(ast.parse(path.read_text(encoding="utf-8")), everywhere=True)
        if isinstance(node, ast.ImportFrom) and node.level == 0
    ]
    assert not any((name or "").startswith("vlkd_hub") for name in absolute), "use relative imports here"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_stay_small(path: Path) -> None:
    """A file that nobody can read in one sitting is split."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [p for p in FILES if "demos" not in p.parts], ids=ids)
def test_modules_say_what_they_export(path: Path) -> None:
    """A module with public names lists them, so that a reader knows what others may use. (ruff holds the order.)"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}
    listed = [node for node in tree.body if isinstance(node, ast.Assign) and ast.dump(node.targets[0]).count("__all__")]
    assert not public or listed
