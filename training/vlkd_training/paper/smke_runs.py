"""Does the runs of S-SMKE's ladder on one data set, and scores them; both towers come from the feature cache."""

from __future__ import annotations

import copy
import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vlkd_training.cache import FeatureCache
from vlkd_training.data import load_records
from vlkd_training.data.collate_pairs import CachedPictures, CachedTexts, LivePictures, PairCollator
from vlkd_training.evaluation.median_rank import average_median_rank
from vlkd_training.evaluation.retrieval import retrieval_metrics
from vlkd_training.features import cached_backbone_features, cached_text_tokens
from vlkd_training.image_quantizer import run_image_quantizer
from vlkd_training.image_teacher import OUTPUTS, load_image_teacher
from vlkd_training.losses import matching_accuracy
from vlkd_training.paper.jobs import Job, Tell
from vlkd_training.paper.smke_jobs import SmkeDomain
from vlkd_training.paper.training import loss_curves, train
from vlkd_training.recipe import Recipe, load_recipe
from vlkd_training.rows import CaptionRows
from vlkd_training.smke import Source, head_size_of, smke_method
from vlkd_training.smke_build import build_smke

__all__ = ["SmkeRuns", "first_captions"]

_BATCH = 250
_FIRST_SPLITS = 5


class SmkeRuns:
    """The runs of one data set.

    Args:
        domain: its recipe and splits.
        data: where its pictures are.
        work: features and the quantizer lie there.
    """

    def __init__(self, domain: SmkeDomain, data: str, work: Path) -> None:
        self.domain, self.data, self.work = domain, data, work
        self.quantizer = work / "quantizers" / domain.name

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Do one run, see :class:`vlkd_training.paper.jobs.Ladder`."""
        do = {"features": self._features, "quantizer": self._quantize, "untrained": self._train, "train": self._train}
        return do[job.kind](job, folder, tell)

    @property
    def features(self) -> Path:
        """Folder of the caches."""
        return self.work / "features"

    @cached_property
    def rows(self) -> CaptionRows:
        """The first captions of every training picture."""
        return first_captions(CaptionRows(load_records(self.data, "train")), self.domain.captions)

    @cached_property
    def train_records(self) -> Any:
        """The training pictures."""
        return load_records(self.data, "train")

    @cached_property
    def test_records(self) -> Any:
        """The pictures that are searched."""
        return load_records(self.data, *self.domain.test)

    @cached_property
    def teacher(self) -> Any:
        """Every output of it, so that one cache serves all runs."""
        return load_image_teacher(load_recipe(self.domain.recipe, "smke").teacher.image, OUTPUTS)

    def _features(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        recipe, model, processor = self._student(job)
        source = self._source(recipe, model, processor)
        phase = recipe.phases[0]
        source.cached_pictures(dataclasses.replace(phase, method_options={"target": "cls"}))
        tell(0.6)
        source.texts()
        tell(0.8)
        self._test(model, processor)
        return {"scores": {}, "losses": {}}

    def _quantize(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        run_image_quantizer(
            self.domain.quantizer, self.data, self.quantizer, cache=self.features, seed=job.seed, resume=True
        )
        usage = [json.loads(line) for line in (self.quantizer / "phase-1" / "usage.jsonl").read_text().splitlines()]
        return {"scores": {}, "losses": loss_curves(self.quantizer / "phase-1"), "usage": usage}

    def _student(self, job: Job) -> tuple[Recipe, Any, Any]:
        """The recipe with the run's changes, and its student."""
        recipe = load_recipe(self.domain.recipe, "smke")
        spec = dataclasses.replace(recipe.student, model=recipe.student.model | job.changes.get("model", {}))
        teacher = dataclasses.replace(recipe.teacher, quantizer=str(self.quantizer))
        phase = dataclasses.replace(recipe.phases[0], method_options=job.changes.get("method", {}))
        recipe = dataclasses.replace(recipe, student=spec, teacher=teacher, phases=[phase])
        torch.manual_seed(job.seed)
        model, processor = build_smke(spec, self.rows.texts, head_size=head_size_of(recipe, self.teacher))
        return recipe, model, processor

    def _source(self, recipe: Recipe, model: Any, processor: Any) -> Source:
        return Source(recipe, model, processor, self.train_records, self.rows, self.teacher, self.features)

    def _train(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        recipe, model, processor = self._student(job)
        losses: dict[str, Any] = {}
        if job.steps:
            phase = recipe.phases[0]
            collator, teacher = self._source(recipe, model, processor).collator(phase, {})
            method = smke_method(phase, model)
            losses = train(job, phase, model, self.rows, collator, folder, tell, method, teacher)
        return {"scores": self._scores(model.eval(), processor), "losses": losses}

    def _test(
        self, model: Any, processor: Any
    ) -> tuple[CachedPictures | LivePictures, CachedTexts | None, CaptionRows]:
        """The test pictures and captions; by pixels and words where an encoder's input is changed."""
        own, spec = processor.image_processor, load_recipe(self.domain.recipe, "smke").student
        rows, before = CaptionRows(self.test_records), model.config.token_type == "before"
        pictures: CachedPictures | LivePictures
        if before and not model.image_encoder.grid:
            pictures = LivePictures(self.test_records, own, augment=False)
        else:
            found = cached_backbone_features(model.image_encoder, own, self.test_records, self.features)
            pictures = CachedPictures({"image_backbone_features": found["features"]})
        if before:
            return pictures, None, rows
        tokens, lengths = _text_tokens(model, processor, rows, spec.max_length, self.features)
        return pictures, CachedTexts(tokens["tokens"], lengths), rows

    @torch.inference_mode()
    def _scores(self, model: Any, processor: Any) -> dict[str, float]:
        pictures, texts, rows = self._test(model, processor)
        collator = PairCollator(rows, processor.tokenizer, pictures, texts)
        count = len(self.test_records)
        images = [
            model.embedding_of(model.encode_image(**pictures(range(at, min(at + _BATCH, count)))))
            for at in range(0, count, _BATCH)
        ]
        words = []
        for at in range(0, len(rows), _BATCH):
            batch = collator(range(at, min(at + _BATCH, len(rows))))
            given = {name: batch[name] for name in _TEXT_INPUTS if name in batch}
            words.append(model.embedding_of(model.encode_text(**given)))
        image_embeds, text_embeds = (_unit(torch.cat(parts)) for parts in (images, words))
        scores = _retrieval(image_embeds, text_embeds, rows.images)
        if count >= 2 * _FIRST_SPLITS:
            ranks = average_median_rank(image_embeds, text_embeds, rows.images, _FIRST_SPLITS, count // _FIRST_SPLITS)
            scores |= {f"median_rank:{way}": float(value) for way, value in ranks.items() if isinstance(value, float)}
        if model.matching is not None:
            scores["itm"] = 100 * _matching(model, collator, len(rows))
        return scores


_TEXT_INPUTS = ("input_ids", "attention_mask", "text_hidden_states")
_IMAGE_INPUTS = ("pixel_values", "image_backbone_features")


def first_captions(rows: CaptionRows, count: int) -> CaptionRows:
    """Keep the first ``count`` captions of each picture."""
    seen: dict[int, int] = {}
    kept = []
    for row, image in enumerate(rows.images):
        seen[image] = seen.get(image, 0) + 1
        if seen[image] <= count:
            kept.append(row)
    smaller = copy.copy(rows)
    smaller.texts = [rows.texts[row] for row in kept]
    smaller.images = [rows.images[row] for row in kept]
    return smaller


def _text_tokens(
    model: Any, processor: Any, rows: CaptionRows, length: int, root: Path
) -> tuple[FeatureCache, list[int]]:
    return cached_text_tokens(model.text_encoder, processor.tokenizer, rows.texts, length, root)


def _unit(rows: torch.Tensor) -> np.ndarray:
    return nn.functional.normalize(rows.float(), dim=-1).numpy()


def _retrieval(images: np.ndarray, texts: np.ndarray, owners: list[int]) -> dict[str, float]:
    """In points; ``avg_r`` is the mean over R@1, 5, 10 of both directions, as the thesis's tables have it."""
    found = retrieval_metrics(images, texts, owners)
    forth, back = found["text_to_image"], found["image_to_text"]
    every = [way[f"r@{k}"] for way in (forth, back) for k in (1, 5, 10)]
    scores = {"avg_r": 100 * sum(every) / len(every), "r@1": 100 * forth["r@1"], "r@10": 100 * forth["r@10"]}
    return scores | {"i2t_r@1": 100 * back["r@1"], "i2t_r@10": 100 * back["r@10"]}


def _matching(model: Any, collator: PairCollator, count: int) -> float:
    """Share of right answers of the head on h'', with negatives drawn by similarity, seeded."""
    torch.manual_seed(0)
    order = np.random.default_rng(0).permutation(count)  # neighbours show the same picture
    found, size = [], min(_BATCH, count)
    for at in range(0, count - size + 1, size):
        batch = collator(order[at : at + size].tolist())
        given = {name: batch[name] for name in (*_TEXT_INPUTS, *_IMAGE_INPUTS, "image_ids") if name in batch}
        logits = model(**given, matching="hard").itm_logits2
        labels = (torch.arange(len(logits)) < len(logits) // 3).long()
        found.append(float(matching_accuracy(logits, labels)))
    return sum(found) / len(found)
