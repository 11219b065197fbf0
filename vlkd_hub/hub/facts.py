"""What a model card may say: figures that were measured and written down, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vlkd_hub.bundle import Manifest
from vlkd_hub.errors import InvalidInputError

__all__ = ["CardFacts", "Score", "read_facts", "scores"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of an evaluation."""

    task: str
    """Task type of the Hub, for example ``image-to-text``."""
    metric: str
    """Identifier, for example ``recall_at_1``."""
    name: str
    """For people."""
    value: float
    split: str
    data: str
    chance: float | None = None
    """What guessing gets, where the report says."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything a card is filled from. What is None or empty leaves no trace on the card.

    Attributes:
        model_type: of the config or the manifest.
        has_student: weights for torch lie at the top of the repository.
        bundle: the manifest of the bundle that lies there.
        evaluation: reports of ``vlkd evaluate --json``.
        latency: the report of ``vlkd bench caption --json``.
        lineage: teacher, data and recipe, as the trainer noted them.
        sizes: bytes of ``weights`` and of ``bundle``.
        picture: path in the repository of the picture of quality against latency and size.
        metadata: front matter given by the owner: license, language, datasets, base_model, tags.
        data_license: under what terms the training data came, in the owner's words.
        data_name: what the owner calls the data of the evaluation; None takes the name of its folder.
    """

    model_type: str
    has_student: bool
    bundle: Manifest | None = None
    evaluation: Sequence[Mapping[str, Any]] = ()
    latency: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    picture: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data_license: str | None = None
    data_name: str | None = None


RETRIEVAL = {"text_to_image": "text to image", "image_to_text": "image to text"}
CUTS = {"r@1": "recall_at_1", "r@5": "recall_at_5", "r@10": "recall_at_10"}
CAPTION = {"cider": "CIDEr", "bleu4": "BLEU-4", "rouge_l": "ROUGE-L", "meteor": "METEOR", "spice": "SPICE"}


def scores(report: Mapping[str, Any], data_name: str | None = None) -> Iterator[Score]:
    """Yield the figures of one report of ``vlkd evaluate``; those that it lacks are left out."""
    data = data_name or Path(str(report.get("data", ""))).name or "unnamed data"
    for split, measured in report.get("splits", {}).items():
        at: dict[str, Any] = {"split": str(split), "data": data}
        for way, words in RETRIEVAL.items():
            found = measured.get("retrieval", {}).get(way, {})
            for cut, metric in CUTS.items():
                if found.get(cut) is not None:
                    name = f"{cut.upper()}, {words}"
                    chance = found.get(f"chance_{cut}")
                    yield Score(
                        task="image-text-retrieval", metric=metric, name=name, value=found[cut], chance=chance, **at
                    )
        for metric, name in CAPTION.items():
            if measured.get("caption", {}).get(metric) is not None:
                yield Score(task="image-to-text", metric=metric, name=name, value=measured["caption"][metric], **at)
        for task, kind, name, guess in (
            ("vqa", "visual-question-answering", "VQA accuracy", "baseline"),
            ("zero_shot", "zero-shot-image-classification", "top-1 accuracy", "chance"),
        ):
            part = measured.get(task, {})
            if part.get("accuracy") is not None:
                yield Score(
                    task=kind, metric="accuracy", name=name, value=part["accuracy"], chance=part.get(guess), **at
                )


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML object.

    Raises:
        InvalidInputError: the file is absent, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InvalidInputError(f"{path} must hold an object (names and values).")
    return data
