"""COCO-style JSON: caption annotations, Karpathy's splits, VQAv2 questions with annotations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.jsonl import read_json
from vlkd_training.data.records import QuestionAnswer, Record

__all__ = ["read_coco"]

_KINDS = "Karpathy ('images' with 'sentences'), COCO captions ('images' + 'annotations'), VQAv2 ('questions')"


def read_coco(data: str | Path, split: str) -> Iterator[Record]:
    """Read a JSON file; which of the three kinds it is, its keys say.

    Pictures are looked for beside the file, in ``<split>/``, ``images/``, ``images/<split>/`` and in the folder that
    a Karpathy entry names (``filepath``). VQAv2's annotations lie in the file whose name has ``annotations`` where
    the questions' has ``questions``. The file itself is held in memory; pictures are not.

    Args:
        data: the ``.json`` file.
        split: of Karpathy's file, ``restval`` counts as ``train`` and ``val`` is also called ``validation``. The
            other kinds hold one split a file.

    Raises:
        DataError: the file is of no known kind, the split is missing, or an entry or a picture is.
    """
    path = Path(data)
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected one of {_KINDS}; got a JSON {type(content).__name__}.")
    try:
        if "questions" in content:
            yield from _vqa(path, content, split)
        elif "images" in content and "annotations" in content:
            yield from _captions(path, content, split)
        elif "images" in content:
            yield from _karpathy(path, content, split)
        else:
            raise DataError(f"{path}: expected one of {_KINDS}; its keys are {', '.join(content) or 'none'}.")
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: an entry lacks a field or has another shape: {error!r}.") from error


def _karpathy(path: Path, content: dict[str, Any], split: str) -> Iterator[Record]:
    wanted = {"train": ("train", "restval"), "validation": ("validation", "val")}.get(split, (split,))
    splits = sorted({str(image["split"]) for image in content["images"]})
    if not set(wanted) & set(splits):
        raise DataError(f"{path} has no split {split!r}; it has: {', '.join(splits) or 'none'}.")
    for image in content["images"]:
        if image["split"] in wanted:
            captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
            picture = _find(path, image["filename"], split, str(image.get("filepath", "")))
            yield Record(id=str(image["filename"]), captions=_checked(captions, path, image), image_path=picture)


def _captions(path: Path, content: dict[str, Any], split: str) -> Iterator[Record]:
    captions: dict[Any, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
    for image in content["images"]:
        checked = _checked(tuple(captions.get(image["id"], ())), path, image)
        yield Record(id=str(image["id"]), captions=checked, image_path=_find(path, image["file_name"], split))


def _vqa(path: Path, content: dict[str, Any], split: str) -> Iterator[Record]:
    annotations = _annotations(path)
    subtype = str(content.get("data_subtype", split))
    asked: dict[int, list[QuestionAnswer]] = {}
    for question in content["questions"]:
        annotation = annotations.get(question["question_id"])
        if annotation is None:
            raise DataError(f"{path}: question {question['question_id']} has no annotation; are both of one split?")
        answers = tuple(answer["answer"] for answer in annotation["answers"])
        item = QuestionAnswer(question["question"], answers, annotation.get("answer_type"))
        asked.setdefault(question["image_id"], []).append(item)
    for image_id, items in asked.items():
        picture = _find(path, f"COCO_{subtype}_{image_id:012d}.jpg", split, subtype)
        yield Record(id=str(image_id), qa=tuple(items), image_path=picture)


def _annotations(path: Path) -> dict[int, dict[str, Any]]:
    file = path.with_name(path.name.replace("OpenEnded_", "").replace("questions", "annotations"))
    if file == path or not file.is_file():
        raise DataError(f"{path}: the annotations belong in {file.name} beside it, and it is not there.")
    return {annotation["question_id"]: annotation for annotation in read_json(file)["annotations"]}


def _checked(captions: tuple[str, ...], path: Path, image: dict[str, Any]) -> tuple[str, ...]:
    if not captions or not all(captions):
        raise DataError(f"{path}: picture {image.get('id', image.get('filename'))!r} has no caption or an empty one.")
    return captions


def _find(path: Path, name: str, split: str, subfolder: str = "") -> Path:
    root = path.parent
    folders = [root, root / split, root / "images", root / "images" / split]
    if subfolder:
        folders = [root / subfolder, root / "images" / subfolder, *folders]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(f"{path}: the picture {name} is missing; looked in {looked}.")
