"""Which files of a student and of a bundle go to the Hub, and how they look there."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from vlkd_hub.bundle import MANIFEST_NAME, Manifest, read_manifest
from vlkd_hub.errors import HubError, InvalidInputError
from vlkd_hub.hub.fetch import BUNDLE_FOLDER
from vlkd_hub.hub.weights import check_weights

__all__ = ["CARD_NAME", "Contents", "bundle_contents", "stale", "student_contents", "without_folders"]

CARD_NAME = "README.md"
LINEAGE_NAME = "lineage.json"
SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    LINEAGE_NAME,
)
CODE = tuple(sorted({path.name for path in Path(__file__).parents[1].glob("models/*/[a-z]*.py")}))
OURS = (
    *SETTINGS,
    *CODE,
    "model*.safetensors",
    "model.safetensors.index.json",
    MANIFEST_NAME,
    "onnx/*",
    "golden/*",
    "quantization.json",
    "quantization.svg",
    f"{BUNDLE_FOLDER}/*",
)
"""Files that an earlier push may have left: what a new one does not bring is deleted. Anything else is the owner's."""

NAMES_OF_FOLDERS = ("_name_or_path", "name_or_path")
RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import\b|^\s*from\s+\.\s+import\s+(\w+)", re.MULTILINE)

Contents = dict[str, Path | bytes]
"""Path in the repository -> the file, or its bytes where they are not those of a file."""


def student_contents(folder: Path) -> Contents:
    """The files of a saved student: settings, weights, and the code that its ``auto_map`` names.

    Checkpoints, optimizer state and whatever else a training run left in the folder stay at home. Folders of this
    machine that transformers and the trainer noted are cut to their last part, or taken out.

    Raises:
        InvalidInputError: there is no student, or its ``auto_map`` names a file that is not there.
        WeightsError: the weights are not well-formed safetensors.
    """
    if not (folder / "config.json").is_file():
        raise InvalidInputError(f"{folder} holds no config.json (a student) and no {MANIFEST_NAME} (a bundle).")
    paths = [*check_weights(folder), *folder.glob("*.safetensors.index.json"), *_code_files(folder)]
    paths += [folder / name for name in SETTINGS if (folder / name).is_file()]
    found: Contents = {path.name: path for path in paths}
    for name in [name for name in found if name.endswith("config.json")] + [LINEAGE_NAME]:
        if name in found:
            cleaned = without_folders(_read(folder / name), everywhere=name == LINEAGE_NAME)
            found[name] = (json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n").encode()
    return found


def bundle_contents(folder: Path, inside: str = "") -> tuple[Contents, Manifest]:
    """The files that a bundle's manifest lists, checked against it, and the manifest.

    Args:
        folder: the bundle.
        inside: folder of the repository that it goes into; empty for the top.

    Raises:
        BundleError: the bundle is not as it was exported.
    """
    manifest = read_manifest(folder, verify=True)
    names = [*manifest.files, MANIFEST_NAME]
    return {str(PurePosixPath(inside, name)): folder / name for name in names}, manifest


def stale(present: list[str], wanted: Contents) -> list[str]:
    """Files in the repository that an earlier push brought and this one does not."""
    return [name for name in present if name not in wanted and any(fnmatch(name, pattern) for pattern in OURS)]


def _code_files(folder: Path) -> list[Path]:
    """Python files that some ``auto_map`` at the top of a config names, and those that they import from beside them."""
    waiting: list[str] = []
    for name in ("config.json", "processor_config.json", "tokenizer_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            for entry in _read(folder / name).get("auto_map", {}).values():
                places = entry if isinstance(entry, list) else [entry]
                waiting += [f"{place.rpartition('.')[0]}.py" for place in places if place]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = folder / name
        if PurePath(name).name != name or not path.is_file():
            raise InvalidInputError(
                f"A config in {folder} says that its code is in {name}, which is not there. Save the student again "
                "with this vlkd-hub, which puts the code beside the weights."
            )
        found[name] = path
        imported = RELATIVE_IMPORT.findall(path.read_text(encoding="utf-8"))
        waiting += [f"{first or second}.py" for first, second in imported]
    return [found[name] for name in sorted(found)]


def without_folders(value: Any, everywhere: bool) -> Any:
    """JSON without folders of this machine.

    Args:
        value: parsed JSON.
        everywhere: cut every absolute path to its last part; else only leave out what transformers noted as the place
            that a model came from.
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not (k in NAMES_OF_FOLDERS and _is_folder(v))}
        return {key: without_folders(item, everywhere) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_folders(item, everywhere) for item in value]
    return PurePath(value).name if everywhere and _is_folder(value) else value


def _is_folder(value: Any) -> bool:
    """A path that means something on one machine only."""
    return isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute())


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise HubError(f"{path} does not hold an object.")
    return data
