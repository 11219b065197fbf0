"""Writes scenes to disk as an imagefolder: one folder a split, pictures and ``metadata.jsonl``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.scenes.language import captions, entailment, questions
from vlkd_training.data.scenes.render import object_box, render
from vlkd_training.data.scenes.vocabulary import SPLITS
from vlkd_training.data.scenes.world import GENERATOR_VERSION, sample_scene, scene_random

__all__ = ["describe_scene", "write_split"]


def describe_scene(split: str, index: int, size: int, seed: int) -> dict[str, Any]:
    """Return the metadata record of one picture: captions, questions, entailment pairs and region boxes."""
    scene = sample_scene(split, index, seed)
    rng = scene_random(seed, split, index, "language")
    return {
        "file_name": f"{index:06d}.png",
        "captions": captions(scene, rng),
        "qa": [{"question": q.question, "answers": [q.answer], "type": q.type} for q in questions(scene, rng)],
        "entailment": [{"hypothesis": text, "label": label} for text, label in entailment(scene, rng)],
        "regions": [{"box": object_box(item, size), "tag": item.name} for item in scene.objects],
    }


def write_split(
    folder: Path,
    split: str,
    count: int,
    *,
    size: int = 160,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[], None] | None = None,
) -> bool:
    """Make ``folder/split`` with ``count`` pictures, or keep it when it is already there with the same settings.

    The split appears by one rename when it is whole; a killed run leaves a ``.partial`` folder whose pictures the
    next run keeps.

    Args:
        folder: the data set's folder.
        split: a split of the scenes world.
        count: pictures to make.
        size: side of a picture in pixels.
        seed: of the data set.
        workers: processes.
        progress: called after each picture.

    Returns:
        False when the split was already there.

    Raises:
        DataError: the split exists with other settings, or an argument is out of range.
    """
    if split not in SPLITS:
        raise DataError(f"scenes have the splits {', '.join(SPLITS)}; got {split!r}.")
    if count < 1 or size < 32:
        raise DataError(f"Ask for at least 1 picture of at least 32 pixels; got {count} of {size}.")
    settings = {"generator": GENERATOR_VERSION, "split": split, "count": count, "size": size, "seed": seed}
    target = folder / split
    if target.exists():
        _check_same(target, settings)
        return False
    partial_folder = folder / f".{split}.partial"
    if partial_folder.exists() and _read_settings(partial_folder) != settings:
        shutil.rmtree(partial_folder)
    partial_folder.mkdir(parents=True, exist_ok=True)
    (partial_folder / "scenes.json").write_text(json.dumps(settings, indent=1) + "\n")
    with (partial_folder / "metadata.jsonl").open("w", encoding="utf-8") as lines:
        for record in _make(partial_folder, settings, workers):
            lines.write(json.dumps(record) + "\n")
            if progress is not None:
                progress()
    os.replace(partial_folder, target)
    return True


def _make(folder: Path, settings: dict[str, Any], workers: int) -> Iterator[dict[str, Any]]:
    one = partial(_write_one, folder, settings["split"], settings["size"], settings["seed"])
    if workers <= 1:
        yield from map(one, range(settings["count"]))
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(one, range(settings["count"]), chunksize=32)


def _write_one(folder: Path, split: str, size: int, seed: int, index: int) -> dict[str, Any]:
    record = describe_scene(split, index, size, seed)
    file = folder / record["file_name"]
    if not file.exists():
        temporary = file.with_suffix(".tmp")
        render(sample_scene(split, index, seed), size).save(temporary, format="PNG", compress_level=3)
        os.replace(temporary, file)
    return record


def _read_settings(folder: Path) -> dict[str, Any] | None:
    file = folder / "scenes.json"
    return json.loads(file.read_text()) if file.exists() else None


def _check_same(target: Path, settings: dict[str, Any]) -> None:
    found = _read_settings(target)
    if found != settings:
        raise DataError(
            f"{target} already holds scenes made with {found}, and {settings} was asked for. "
            "Choose another folder or remove this one."
        )
