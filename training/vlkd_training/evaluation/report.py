"""Tables of an evaluation for the screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

__all__ = ["notes", "tables"]

_WAYS = {"text_to_image": "text to image", "image_to_text": "image to text"}
_CAPTION = {"cider": "CIDEr", "cider_shuffled": "CIDEr, shuffled pictures", "bleu4": "BLEU-4", "rouge_l": "ROUGE-L"}
_CAPTION |= {"meteor": "METEOR", "spice": "SPICE"}


def tables(split: str, measured: dict[str, Any]) -> Iterator[Table]:
    """Yield one table for each task that ran on ``split``."""
    title = f"{split}, {measured['n_images']} pictures"
    if "retrieval" in measured:
        yield _retrieval(f"Search: {title}", measured["retrieval"])
        if "average_median_rank" in measured["retrieval"]:
            yield _median_rank(measured["retrieval"]["average_median_rank"])
    if "caption" in measured:
        yield _caption(f"Captions: {title}", measured["caption"])
    if "vqa" in measured:
        yield _vqa(f"Questions: {title}", measured["vqa"])
    if "zero_shot" in measured:
        yield _zero_shot(f"Zero-shot classes: {title}", measured["zero_shot"])


def notes(split: str, measured: dict[str, Any]) -> Iterator[str]:
    """Yield what the tables leave unsaid: the tokenizer, why a measure, a baseline or a task is missing."""
    for task in ("caption", "vqa"):
        for name, note in measured.get(task, {}).get("notes", {}).items():
            yield f"{split}, {name}: {note}"
    for task, reason in measured["skipped"].items():
        yield f"{split}, {task} skipped: {reason}"


def _retrieval(title: str, scores: dict[str, Any]) -> Table:
    table = _table(title, "", "R@1", "R@5", "R@10", "median rank", "chance R@10")
    for key, name in _WAYS.items():
        way = scores[key]
        shares = [_percent(way[cut]) for cut in ("r@1", "r@5", "r@10")]
        table.add_row(name, *shares, f"{way['median_rank']:g}", _percent(way["chance_r@10"]))
    return table


def _median_rank(found: dict[str, Any]) -> Table:
    title = f"Average median rank: {found['splits']} splits of {found['size']}, each with {found['repeats']} captions"
    table = _table(title, "", "median rank", "chance")
    for key, name in _WAYS.items():
        table.add_row(name, f"{found[key]:.2f}", f"{found['chance']:g}")
    return table


def _caption(title: str, scores: dict[str, Any]) -> Table:
    table = _table(title, "measure", "score")
    for key, name in _CAPTION.items():
        table.add_row(name, "-" if scores[key] is None else f"{scores[key]:.3f}")
    return table


def _vqa(title: str, scores: dict[str, Any]) -> Table:
    table = _table(title, "type", "questions", "accuracy", "most frequent answer")
    for kind, part in [("all", scores), *scores["by_type"].items()]:
        table.add_row(kind, str(part["n"]), _percent(part["accuracy"]), _percent(part["baseline"]))
    return table


def _zero_shot(title: str, scores: dict[str, Any]) -> Table:
    table = _table(title, "classes", "top 1", "top 5", "chance, top 1")
    table.add_row(str(scores["classes"]), *(_percent(scores[key]) for key in ("accuracy", "top5", "chance")))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
