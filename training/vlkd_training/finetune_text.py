"""`vlkd finetune` on texts alone: GLUE and XSum, which show whether distillation left the language (Tables 5 and 6).

Source: 002_330011b7ef9ac362.txt, sections 4.1 and 4.5, appendix A.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vlkd_hub.errors import RecipeError
from vlkd_hub.models.vlkd import VlkdForConditionalGeneration, VlkdForSequenceClassification

from .cache import weights_fingerprint
from .data.collate_text import LabelCollator, SummaryCollator
from .data.glue import GLUE_TASKS, glue_task, load_glue
from .data.xsum import load_xsum
from .evaluation.text import label_scores, rouge_scores
from .finetune import load_student
from .phases import check_options, train_phase
from .recipe import Phase, load_recipe
from .runs import Run

__all__ = ["TEXT_METHODS", "TextWork", "classification", "run_text_finetune", "summarization"]

TEXT_METHODS = ("summarization", "text_classification")
"""Methods that need no picture; a recipe with one of them is run by :func:`run_text_finetune`."""

_console = Console(stderr=True)


@dataclasses.dataclass(frozen=True)
class TextWork:
    """A student with what it learns and how it is scored."""

    student: Any
    processor: Any
    rows: Any
    """Of the training split, a ``datasets.Dataset``."""

    collator: Callable[[Any], dict[str, Any]]
    score: Callable[[], dict[str, float]]
    """``split/measure`` -> score on the splits that are not trained on."""


def run_text_finetune(
    recipe_name: str | Path,
    data: str,
    model_path: str,
    output: Path,
    *,
    task: str | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Fine-tune a student on a task of GLUE or on XSum, score it on the development split, and save it.

    Args:
        recipe_name: a recipe whose only phase has one of :data:`TEXT_METHODS`.
        data: see :func:`vlkd_training.data.text_tables.open_texts`.
        model_path: folder or Hub id of a student.
        output: folder of the fine-tuned one.
        task: of GLUE; none for XSum.
        split: to train on.
        limit: only the first rows of every split.
        seed: of the new head and of the batches.
        overrides: training arguments over the recipe's.
        resume: go on from what an interrupted run left.

    Returns:
        The Trainer's metrics, and ``split/measure`` -> score.

    Raises:
        RecipeError: several phases, a task too many or too few, or a bad option.
        DataError: data or weights are missing.
    """
    recipe = load_recipe(recipe_name, "finetune")
    if len(recipe.phases) != 1 or recipe.phases[0].method not in TEXT_METHODS:
        raise RecipeError(f"A recipe on texts has one phase, of {' or '.join(TEXT_METHODS)}; {recipe_name} differs.")
    phase = recipe.phases[0]
    torch.manual_seed(seed)
    if phase.method == "text_classification":
        work = classification(phase, data, model_path, task, split, limit)
    elif task is not None:
        raise RecipeError(f"--task names a task of GLUE, and {recipe_name} has none; leave it out.")
    else:
        work = summarization(phase, data, model_path, split, limit)
    student = work.student
    _console.print(f"Fine-tuning on {len(work.rows)} texts of {data}")
    facts: dict[str, Any] = {"recipe": dataclasses.asdict(recipe), "data": _fingerprint(work.rows), "task": task}
    facts |= {"student": weights_fingerprint(student), "seed": seed, "training arguments": overrides or {}}
    run = Run(output, facts, resume)
    settings = {"seed": seed} | (overrides or {})
    train = functools.partial(train_phase, phase, student, work.rows, work.collator, overrides=settings)
    metrics = run.train(0, student, train)
    metrics |= work.score()
    lineage = {"recipe": str(recipe_name), "data": data, "task": task, "from": model_path, "source": recipe.source}
    run.save(student, work.processor, lineage, metrics)
    return metrics


def classification(
    phase: Phase, data: str, model_path: str | Path, task: str | None, split: str = "train", limit: int | None = None
) -> TextWork:
    """A student with a new head, and a task of GLUE.

    Raises:
        RecipeError: no task is named, or an unknown option.
        DataError: data or weights are missing.
    """
    check_options(phase.data, ("max_length",), f"data options of {phase.method!r}")
    if task is None:
        raise RecipeError(f"Name the task of GLUE with --task: {', '.join(GLUE_TASKS)}.")
    known = glue_task(task)
    rows = load_glue(data, task, split, limit)
    held = {name: load_glue(data, task, name, limit) for name in known.evaluation_splits}
    student, processor = load_student(
        model_path,
        VlkdForSequenceClassification,
        new=("classification_head.",),
        num_labels=known.num_labels,
        **({"id2label": dict(enumerate(known.labels))} if known.labels else {}),
    )
    length = _room(student, phase.data.get("max_length", 128))
    collator = LabelCollator(processor.tokenizer, length, regression=not known.labels)

    def score() -> dict[str, float]:
        found: dict[str, float] = {}
        for name, table in held.items():
            scores = label_scores(known, label_logits(student, table, collator), table["label"][:])
            found |= {f"{name}/{measure}": value for measure, value in scores.items()}
        return found

    return TextWork(student, processor, rows, collator, score)


def summarization(
    phase: Phase, data: str, model_path: str | Path, split: str = "train", limit: int | None = None
) -> TextWork:
    """A student, documents and their summaries.

    Raises:
        RecipeError: an unknown option.
        DataError: data or weights are missing.
    """
    known = ("generate", "max_length", "max_target_length")
    check_options(phase.data, known, f"data options of {phase.method!r}")
    rows, held = load_xsum(data, split, limit), load_xsum(data, "validation", limit)
    student, processor = load_student(model_path)
    lengths: dict[str, Any] = {name: _room(student, phase.data[name]) for name in known[1:] if name in phase.data}
    collator = SummaryCollator(processor.tokenizer, **lengths)

    def score() -> dict[str, float]:
        written = write_summaries(student, held, collator, phase.data.get("generate", {}))
        return {f"validation/{name}": value for name, value in rouge_scores(written, held["summary"][:]).items()}

    return TextWork(student, processor, rows, collator, score)


@torch.inference_mode()
def label_logits(student: Any, rows: Any, collator: LabelCollator, batch_size: int = 64) -> np.ndarray:
    """What a classifier says of every row, ``(rows, num_labels)``."""
    student.eval()
    found = []
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[row] for row in range(start, min(start + batch_size, len(rows)))])
        inputs = {name: batch[name].to(student.device) for name in ("input_ids", "attention_mask")}
        found.append(student(**inputs).logits.float().cpu().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def write_summaries(
    student: Any, rows: Any, collator: SummaryCollator, options: dict[str, Any], batch_size: int = 16
) -> list[str]:
    """One summary a document, in order; ``options`` are those of ``generate``."""
    student.eval()
    written: list[str] = []
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[row] for row in range(start, min(start + batch_size, len(rows)))])
        inputs = {name: batch[name].to(student.device) for name in ("input_ids", "attention_mask")}
        ids = student.generate(**inputs, **options)
        written += [text.strip() for text in collator.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return written


def _room(student: VlkdForConditionalGeneration, asked: int) -> int:
    """As many tokens as asked for, less where encoder or decoder have fewer places."""
    places = [
        getattr(config, "max_position_embeddings", None)
        for config in (student.config.text_encoder, student.config.decoder)
    ]
    return min(asked, *(number for number in places if number is not None))


def _fingerprint(rows: Any) -> str:
    """Identity of a table's content; that of ``datasets`` is of the way it was made."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]
