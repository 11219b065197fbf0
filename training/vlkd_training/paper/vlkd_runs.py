"""How each run of the VLKD ladder is done, on one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkd_training.align import run_align
from vlkd_training.build import solve_text_projection
from vlkd_training.data.collate import CaptionCollator, TaskCollator
from vlkd_training.distill import SOLVE_ON, teacher_text_vectors
from vlkd_training.evaluation.retrieval import retrieval_metrics
from vlkd_training.paper.jobs import Job, Tell
from vlkd_training.paper.material import Material, picture_source, pictures_of, rows_of
from vlkd_training.paper.scoring import CachedStudent, answer_scores, caption_scores, retrieval_scores
from vlkd_training.paper.training import Weights, loss_curves, train
from vlkd_training.paper.vlkd_jobs import Domain
from vlkd_training.recipe import load_recipe
from vlkd_training.rows import TaskRows, TextRows

__all__ = ["VlkdRuns", "whole_batches"]


class VlkdRuns:
    """The runs of one domain.

    Args:
        domain: its recipes and splits.
        captions: where its captions are.
        questions: where its questions are.
        teacher: folder or Hub id; a run of kind ``teacher`` makes it when ``None``.
        work: weights, features and teachers lie there.
    """

    def __init__(self, domain: Domain, captions: str, questions: str, teacher: str | None, work: Path) -> None:
        self.domain, self.captions, self.questions = domain, captions, questions
        self.work = work
        self.teacher = teacher or str(work / "teachers" / domain.name)
        self.weights = Weights(work / "weights", frozen="vlkd.vision_tower.")

    @cached_property
    def material(self) -> Material:
        """What all runs share; its teacher must be there."""
        recipe = load_recipe(self.domain.distil, "distill")
        return Material(recipe, self.teacher, self.captions, self.work / "features")

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Do one run, see :class:`vlkd_training.paper.jobs.Ladder`."""
        do = {
            "teacher": self._align,
            "features": self._features,
            "language": self._language,
            "distil": self._distil,
            "finetune": self._finetune,
        }[job.kind]
        return do(job, folder, tell)

    def _align(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        output = self.work / "teachers" / self.domain.name
        run_align(self.domain.align, self.captions, output, cache=self.work / "features", seed=job.seed, resume=True)
        return {"scores": {}, "losses": loss_curves(output / "phase-1")}

    def _features(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Fill the cache, and score the teacher itself."""
        for number, data in enumerate(dict.fromkeys((self.captions, self.questions))):
            self.material.tokens(self.material.records(data, "train"))
            tell((1 + number) / 4)
        if self.domain.unseen is not None:
            self.material.held_out(self.captions, *self.domain.unseen)
        self.material.held_out(self.questions, *self.domain.questions_test)
        held = self.material.held_out(self.captions, *self.domain.captions_test)
        _ = self.material.text_vectors, self.material.text_means
        tell(0.9)
        texts = [caption for record in held.records for caption in record.captions]
        owners = [row for row, record in enumerate(held.records) for _ in record.captions]
        vectors = teacher_text_vectors(
            self.material.teacher, self.material.teacher_processor, texts, self.material.cache
        )
        images = np.stack([held.tokens[row][0] for row in range(len(held.records))]).astype(np.float32)
        images /= np.linalg.norm(images, axis=-1, keepdims=True)
        found = retrieval_metrics(images, vectors, owners)["text_to_image"]
        return {"scores": {"r@1": 100 * found["r@1"], "r@10": 100 * found["r@10"]}, "losses": {}}

    def _language(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Pre-train the decoder on text alone."""
        student, processor = self.material.student(job.seed)
        texts = _texts(self.material, self.questions, job.seed)
        phase = self.material.recipe.phases[0]
        collator = CaptionCollator(TextRows(texts), processor.tokenizer, None, None, **phase.data)
        losses = train(job, phase, student, TextRows(texts), collator, folder, tell)
        self.weights.keep(job, student)
        return {"scores": {}, "losses": losses, "texts": len(texts)}

    def _distil(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        student, processor = self.material.student(job.seed, **job.changes.get("student", {}))
        self.weights.take(f"{self.domain.name}/language@{job.seed}", student)
        records = self.material.records(self.captions, "train")
        rows, chosen = rows_of(self.material.rows, pictures_of(records, job.changes.get("share", 1.0), job.seed))
        vectors = self.material.text_vectors[chosen]
        facts: dict[str, Any] = {"pictures": len(set(rows.images)), "captions": len(rows)}
        if job.changes.get("start") != "random":
            some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(job.seed))[:SOLVE_ON].numpy()
            facts["init_cosine"] = solve_text_projection(student, self.material.text_means[chosen[some]], vectors[some])
        plan = self.material.recipe.phases[1]
        phase = dataclasses.replace(
            plan,
            method_options=plan.method_options | job.changes.get("method", {}),
            data=plan.data | job.changes.get("data", {}),
        )
        pictures = picture_source(self.material.tokens(records), student.config.image_features)
        collator = CaptionCollator(rows, processor.tokenizer, pictures, vectors, **phase.data)
        losses = train(job, phase, student, rows, collator, folder, lambda part: tell(0.6 * part))
        if job.name.endswith("/full"):
            self.weights.keep(job, student)
        scores, examples = self._zero_shot(job, student, processor)
        learnt = self._tune(job, "answers", 1.0, student, processor, folder / "answers", lambda p: tell(0.6 + 0.4 * p))
        for name, value in learnt["scores"].items():
            scores[name if name.endswith("_guess") else f"{name}_tuned"] = value
        losses |= {f"tuned {name}": curve for name, curve in learnt["losses"].items()}
        return facts | {"scores": scores, "losses": losses, "examples": examples | learnt["examples"]}

    def _finetune(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        student, processor = self.material.student(job.seed)
        self.weights.take(f"{self.domain.name}/full@{job.seed}", student)
        return self._tune(job, job.changes["task"], job.changes["share"], student, processor, folder, tell)

    def _tune(
        self, job: Job, task: str, share: float, student: Any, processor: Any, folder: Path, tell: Tell
    ) -> dict[str, Any]:
        """Fine-tune on captions or answers of a part of the pictures, and score that."""
        phase = load_recipe(self.domain.finetune[task], "finetune").phases[0]
        records = self.material.records(self.captions if task == "captions" else self.questions, "train")
        chosen = pictures_of(records, share, job.seed)
        batch = phase.train["per_device_train_batch_size"]
        rows = whole_batches([records[row] for row in chosen], processor, phase.data["tasks"], job.seed, batch)
        rows.images = [chosen[row] for row in rows.images]
        pictures = picture_source(self.material.tokens(records), student.config.image_features)
        collator = TaskCollator(rows, processor.tokenizer, pictures)
        losses = train(job, phase, student, rows, collator, folder, tell)
        kind = "caption" if task == "captions" else "vqa"
        unseen = job.kind == "finetune" or job.name.endswith("/full")
        scores, examples = self._scored(kind, student, processor, unseen=unseen)
        found = {"pictures": len(chosen), "rows": len(rows), "scores": scores, "losses": losses}
        return found | {"examples": {task: examples}}

    def _zero_shot(self, job: Job, student: Any, processor: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Search and captions of a student that was distilled and no more; answers where the run asks for them."""
        fill, masks = bool(job.changes.get("fill")), job.changes.get("masks", ())
        scores, examples = self._scored("caption", student, processor, unseen=fill, masks=masks)
        if not fill:
            return scores, {"zero-shot captions": examples}
        answers, more = self._scored("vqa", student, processor, unseen=True, fill=True)
        return scores | answers, {"zero-shot captions": examples, "zero-shot answers": more}

    def _scored(
        self, kind: str, student: Any, processor: Any, *, unseen: bool, **options: Any
    ) -> tuple[dict[str, float], Any]:
        """Scores on the test split and, where asked for and there is one, on the unseen one."""
        split = self.domain.captions_test if kind == "caption" else self.domain.questions_test
        scores, examples = self._score(split, student, processor, kind, **options)
        if unseen and self.domain.unseen is not None:
            found, _ = self._score(self.domain.unseen, student, processor, kind, fill=options.get("fill", False))
            scores |= {f"unseen_{name}": value for name, value in found.items()}
        return scores, examples

    def _score(
        self,
        split: tuple[str, int | None],
        student: Any,
        processor: Any,
        kind: str,
        masks: Sequence[int] = (),
        fill: bool = False,
    ) -> tuple[dict[str, float], Any]:
        held = self.material.held_out(self.captions if kind == "caption" else self.questions, *split)
        tokens = picture_source(held.tokens, student.config.image_features).tokens
        ready = CachedStudent(student, processor, tokens)
        if kind == "vqa":
            return answer_scores(ready, held, fill=fill)
        scores, examples = caption_scores(ready, held, masks)
        return retrieval_scores(ready, held) | scores, examples


def whole_batches(records: Any, processor: Any, tasks: dict[str, float], seed: int, batch: int) -> TaskRows:
    """Rows of tasks; where they are fewer than a batch, a pass visits each of them several times."""
    rows = TaskRows(records, processor, tasks, seed=seed)
    times = -(-batch // len(rows))
    return rows if times == 1 else TaskRows(records, processor, {n: s * times for n, s in tasks.items()}, seed=seed)


def _texts(material: Material, questions: str, seed: int) -> list[str]:
    """Training texts without pictures: every caption, and as many questions with their answer as there are captions."""
    captions = material.rows.texts
    asked = [
        f"{item.question} Answer: {', '.join(sorted(set(item.answers)))}."
        for record in material.records(questions, "train")
        for item in record.qa
        if item.answers
    ]
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(seed))[: len(captions)]
    return [*captions, *(asked[row] for row in order.tolist())]
