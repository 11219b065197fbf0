"""The ladder of S-SMKE: its data sets, its runs and its tables (004_3cb4412af0da3ec5.txt, Tables 10 to 25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlkd_training.paper.jobs import Comparison, Job, Measure, Row
from vlkd_training.recipe import load_recipe

__all__ = ["PHOTOS", "SCENES", "VARIANTS", "SmkeDomain", "comparisons", "jobs"]


@dataclass(frozen=True, kw_only=True)
class SmkeDomain:
    """Pictures with captions.

    Attributes:
        name: as ``--data`` names it, and first part of the names of its runs.
        recipe: what all runs share.
        quantizer: recipe of the image quantizer.
        test: ``(split, pictures)`` that retrieval is scored on.
        captions: of each training picture at most so many, so that texts are cached within a few hundred MB.
        step_s: seconds of a step on two quiet cores.
        score_s: seconds of building a student and of scoring it.
    """

    name: str
    recipe: str = "paper-smke"
    quantizer: str = "paper-smke-codes"
    test: tuple[str, int | None] = ("test", None)
    captions: int = 5
    step_s: float = 0.1
    score_s: float = 9.0


SCENES = SmkeDomain(name="scenes", recipe="paper-smke-scenes", captions=3)
PHOTOS = SmkeDomain(name="photos")

SCALED = {"token_type": "scaled"}
BANK, FIFO = 8192, 384
"""Entries of the large banks, which would be 65,536 and are at most the training set; and of the plain queue, three
batches as in the thesis's example (256 and 768)."""

VARIANTS: dict[str, dict[str, Any]] = {
    "untrained": {"method": {"target": "cls"}},
    "shre-ranking": {
        "model": {"shared": "mlp"},
        "method": {"target": "classes", "contrast": "ranking", "ranking_reduction": "mean"},
    },
    "shre-mlp": {"model": {"shared": "mlp"}, "method": {"target": "classes"}},
    "shre-transformer": {"method": {"target": "classes"}},
    "cls": {"method": {"target": "cls"}},
    "type-before": {"model": {"token_type": "before"}, "method": {"target": "cls"}},
    "type-after": {"model": {"token_type": "after"}, "method": {"target": "cls"}},
    "type-scaled": {"model": SCALED, "method": {"target": "cls"}},
    "itm-random": {"model": SCALED | {"itm_size": 144}, "method": {"target": "cls", "matching": "random"}},
    "itm-hard": {"model": SCALED | {"itm_size": 144}, "method": {"target": "cls", "matching": "hard"}},
    "fifo": {"model": SCALED, "method": {"target": "cls", "bank": FIFO}},
    "momentum": {
        "model": SCALED | {"contrast_layers": [2]},
        "method": {"target": "cls", "bank": BANK, "momentum": 0.995},
    },
    "momentum-fast": {
        "model": SCALED | {"contrast_layers": [2]},
        "method": {"target": "cls", "bank": BANK, "momentum": 0.9},
    },
    "target-cmli": {"model": SCALED | {"cmli_size": 32}, "method": {"target": "patches"}},
    "contrastive": {"model": SCALED, "method": {"target": "contrastive"}},
    "contrastive-bank": {"model": SCALED, "method": {"target": "contrastive", "target_bank": BANK}},
    "codes": {"model": SCALED, "method": {"target": "codes"}},
}
"""What each run changes: fields of the model, options of the method."""

_SLOW = {"target-cmli": 3.5, "type-before": 2.5, "momentum": 1.6, "momentum-fast": 1.6}
"""How much longer a step of a run takes than the others'."""


def jobs(domains: Sequence[SmkeDomain], seeds: Sequence[int]) -> list[Job]:
    """Features and quantizer of every data set, then every variant of the first seed before the second."""
    found: list[Job] = []
    for domain in domains:
        found.append(_job(domain, "features", "features", 0, 0, 90.0))
        steps = int(load_recipe(domain.quantizer, "quantize-images").phases[0].train["max_steps"])
        found.append(_job(domain, "quantizer", "quantizer", 0, steps, 30.0, after=(found[-1].id,)))
    for seed in seeds:
        for domain in domains:
            found += _of_seed(domain, seed)
    return found


def _of_seed(domain: SmkeDomain, seed: int) -> list[Job]:
    steps = int(load_recipe(domain.recipe, "smke").phases[0].train["max_steps"])
    found = []
    for name, changes in VARIANTS.items():
        before = [f"{domain.name}/features@0"]
        before += [f"{domain.name}/quantizer@0"] if name == "codes" else []
        trained = 0 if name == "untrained" else steps
        seconds = trained * domain.step_s * _SLOW.get(name, 1.0) + domain.score_s
        kind = "untrained" if name == "untrained" else "train"
        found.append(_job(domain, name, kind, seed, trained, seconds, changes, tuple(before)))
    return found


def _job(
    domain: SmkeDomain,
    name: str,
    kind: str,
    seed: int,
    steps: int,
    seconds: float,
    changes: dict[str, Any] | None = None,
    after: tuple[str, ...] = (),
) -> Job:
    full = f"{domain.name}/{name}"
    return Job(
        name=full,
        kind=kind,
        data=domain.name,
        seed=seed,
        steps=steps,
        seconds=seconds,
        changes=changes or {},
        after=after,
    )


_MEASURES = (
    Measure(key="avg_r", title="mean of R@1, 5, 10, both ways"),
    Measure(key="r@1", title="text to image R@1"),
    Measure(key="r@10", title="R@10"),
    Measure(key="i2t_r@1", title="image to text R@1"),
)
_MATCHING = (*_MEASURES[:1], Measure(key="itm", title="ITM accuracy on test, hard negatives"))
_FAR = "The thesis trains both encoders on 3.3M pairs; here they are frozen, and the shared encoder alone learns. "


def comparisons(domains: Sequence[SmkeDomain]) -> tuple[Comparison, ...]:
    """The thesis's tables over the data sets that are there."""
    return tuple(table for domain in domains for table in _of_domain(domain))


def _of_domain(domain: SmkeDomain) -> list[Comparison]:
    return [
        _table(domain, "architecture", "From SHRe to S-SMKE", "Tables 10, 15 and 16 (Flickr30k)", _ARCHITECTURE),
        _table(domain, "token-types", "Token-type embeddings", "Tables 18 and 19 (Flickr30k)", _TYPES),
        _table(domain, "matching", "Image-text matching", "Figure 22", _ITM, _MATCHING, _ITM_NOTE),
        _table(domain, "negatives", "More negatives for the contrast", "Tables 21 and 22 (Flickr30k)", _NEGATIVES),
        _table(domain, "targets", "What the teacher's word is held against", "Tables 23 to 25 (Flickr30k)", _TARGETS),
    ]


_Rows = tuple[tuple[str, str, dict[str, float]], ...]
_UNTRAINED = ("not trained: two unrelated encoders", "untrained", {"avg_r": 0.09})
_ARCHITECTURE: _Rows = (
    ("S-SMKE: the teacher's class token", "cls", {"avg_r": 77.11, "r@1": 51.78, "r@10": 86.46, "i2t_r@1": 64.5}),
    (
        "shared Transformer, supervised teacher",
        "shre-transformer",
        {"avg_r": 72.93, "r@1": 43.92, "r@10": 82.8, "i2t_r@1": 58.8},
    ),
    ("shared 3-layer MLP", "shre-mlp", {"avg_r": 70.78, "r@1": 41.8, "r@10": 81.14, "i2t_r@1": 56.1}),
    ("shared MLP, SHRe's ranking loss", "shre-ranking", {}),
    _UNTRAINED,
)
_TYPES: _Rows = (
    ("none", "cls", {"avg_r": 77.1}),
    ("before the encoders", "type-before", {"avg_r": 76.5}),
    ("after the encoders", "type-after", {"avg_r": 78.08}),
    ("after, with LayerScale", "type-scaled", {"avg_r": 78.29}),
)
_ITM: _Rows = (
    ("without", "type-scaled", {}),
    ("random negatives", "itm-random", {"itm": 66.67}),
    ("hard negatives", "itm-hard", {"itm": 66.67}),
)
_ITM_NOTE = (
    'The thesis stopped these runs after an epoch, at 66.67 % accuracy on training pairs: always "no". '
    "Here accuracy is measured on test pictures, two wrong pairs drawn by similarity beside each right one."
)
_NEGATIVES: _Rows = (
    ("the batch alone", "type-scaled", {"avg_r": 78.29}),
    (f"queue of {FIFO} own embeddings", "fifo", {"avg_r": 0.58}),
    (f"momentum encoder 0.995, {BANK} entries", "momentum", {"avg_r": 76.17}),
    (f"momentum encoder 0.9, {BANK} entries", "momentum-fast", {}),
)
_TARGETS: _Rows = (
    ("class token, squared error", "type-scaled", {"avg_r": 78.29}),
    ("patches, target-CMLI", "target-cmli", {"avg_r": 76.2}),
    ("contrastive target", "contrastive", {"avg_r": 78.3, "r@1": 51.48, "r@10": 86.66, "i2t_r@1": 69.0}),
    (
        f"contrastive target, bank of {BANK}",
        "contrastive-bank",
        {"avg_r": 79.9, "r@1": 52.72, "r@10": 87.46, "i2t_r@1": 70.9},
    ),
    ("codes of the image quantizer", "codes", {}),
)


def _table(
    domain: SmkeDomain,
    name: str,
    title: str,
    source: str,
    rows: _Rows,
    measures: tuple[Measure, ...] = _MEASURES,
    note: str = "",
) -> Comparison:
    return Comparison(
        name=f"{domain.name}-{name}",
        title=f"{title}, {domain.name}",
        source=source,
        note=_FAR + note,
        measures=measures,
        rows=tuple(Row(title=text, run=f"{domain.name}/{run}", paper=paper) for text, run, paper in rows),
    )
