"""Runs a student over one split and gathers every measure asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_training.data.records import QuestionAnswer, Record, RecordDataset
from vlkd_training.evaluation.captioning import caption_metrics
from vlkd_training.evaluation.examples import caption_examples, search_examples, vqa_examples
from vlkd_training.evaluation.median_rank import average_median_rank, check_splits
from vlkd_training.evaluation.protocol import Student
from vlkd_training.evaluation.retrieval import retrieval_metrics
from vlkd_training.evaluation.templates import TEMPLATES
from vlkd_training.evaluation.vqa import FrequentAnswers, vqa_metrics
from vlkd_training.evaluation.zero_shot import class_embeddings, zero_shot_metrics

__all__ = ["TASKS", "Evaluator", "Progress"]

Progress = Callable[[str, int, int], None]
"""Called as ``(stage, done, total)``."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Measures of one model on splits of one data set.

    Args:
        student: what to measure.
        batch_size: pictures read at a time; and pictures, texts or questions handed to the model at a time.
        num_beams: for captions and answers; None takes the model's own setting.
        train_questions: opens the training split's questions, for the baseline; called only when needed.
        classes: names for zero-shot; None takes the labels of the split.
        templates: sentences around a class name; their mean stands for the class.
        median_rank: ``(splits, pictures of one)`` for SHRe's average median rank beside the recall; None leaves it out.
        progress: hears how far each stage is.
    """

    student: Student
    batch_size: int = 64
    num_beams: int | None = None
    train_questions: Callable[[], Sequence[QuestionAnswer]] | None = None
    classes: Sequence[str] | None = None
    templates: Sequence[str] = TEMPLATES
    median_rank: tuple[int, int] | None = None
    progress: Progress = lambda stage, done, total: None

    def evaluate(self, records: RecordDataset, tasks: Sequence[str]) -> dict[str, Any]:
        """Run ``tasks`` on a split.

        Returns:
            ``n_images``, one entry a task, and ``skipped``: task -> reason, where the split lacks what it needs.

        Raises:
            DataError: a task is unknown, or the split has data for none of them.
            InvalidInputError: the model cannot do a task.
        """
        unknown = sorted(set(tasks) - set(TASKS))
        if unknown or not tasks:
            raise DataError(f"Unknown task {', '.join(unknown) or '(none given)'}; tasks are {', '.join(TASKS)}.")
        found: dict[str, Any] = {"n_images": len(records)}
        skipped: dict[str, str] = {}
        vectors: dict[str, np.ndarray] = {}
        for task in tasks:
            if not any(_NEEDS[task][1](record) for record in records):
                skipped[task] = f"{records.name} has no {_NEEDS[task][0]}"
                continue
            found[task.replace("-", "_")] = TASKS[task](self, records, vectors)
        if len(skipped) == len(set(tasks)):
            raise DataError(f"Nothing to measure: {'; '.join(skipped.values())}.")
        return found | {"skipped": skipped}

    def _retrieval(self, records: RecordDataset, vectors: dict[str, np.ndarray]) -> dict[str, Any]:
        kept = [row for row, record in enumerate(records) if record.captions]
        if self.median_rank is not None:  # before minutes of embedding
            check_splits(len(kept), *self.median_rank)
        images = self._image_embeds(records, vectors)[kept]
        texts = [caption for row in kept for caption in records[row].captions]
        owners = np.repeat(np.arange(len(kept)), [len(records[row].captions) for row in kept])
        embeds = self._text_embeds(texts)
        scores: dict[str, Any] = dict(retrieval_metrics(images, embeds, owners.tolist()))
        if self.median_rank is not None:
            scores["average_median_rank"] = average_median_rank(images, embeds, owners.tolist(), *self.median_rank)
        examples = search_examples(images, embeds, texts, owners, [records[row].id for row in kept])
        return scores | {"n_captions": len(texts), "examples": examples}

    def _caption(self, records: RecordDataset, vectors: dict[str, np.ndarray]) -> dict[str, Any]:
        kept = [record for record in records if record.captions]
        written: list[str] = []
        for batch in self._batches(kept, "captions"):
            images = [record.load_image() for record in batch]
            written += _one_each(self.student.caption(images, num_beams=self.num_beams), batch, "caption")
        if len(kept) < 2:
            raise DataError(f"Caption measures compare pictures, and {records.name} has {len(kept)} with captions.")
        scores = caption_metrics(written, [record.captions for record in kept])
        return scores | {"examples": caption_examples(kept, written)}

    def _vqa(self, records: RecordDataset, vectors: dict[str, np.ndarray]) -> dict[str, Any]:
        kept = [record for record in records if record.qa]
        items = [item for record in kept for item in record.qa]
        said: list[str] = []
        for batch in self._batches(kept, "answers"):
            # Questions of a picture stay together: the student encodes a picture once a batch.
            asked = [(image, item) for record in batch for image in [record.load_image()] for item in record.qa]
            images, questions = [image for image, _ in asked], [item.question for _, item in asked]
            said += _one_each(self.student.answer(images, questions, num_beams=self.num_beams), asked, "answer")
        train = self.train_questions() if self.train_questions is not None else []
        scores = vqa_metrics(said, items, FrequentAnswers(train) if train else None)
        ids = [record.id for record in kept for _ in record.qa]
        notes = {} if train else {"baseline": "no training questions to learn the most frequent answers from"}
        return scores | {"notes": notes, "examples": vqa_examples(ids, items, said)}

    def _zero_shot(self, records: RecordDataset, vectors: dict[str, np.ndarray]) -> dict[str, Any]:
        kept = [(row, record.label) for row, record in enumerate(records) if record.label is not None]
        labels = [label for _, label in kept]
        classes = sorted(set(labels if self.classes is None else self.classes))
        images = self._image_embeds(records, vectors)[[row for row, _ in kept]]
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            raise DataError(f"{records.name}: {len(unknown)} labels are no known class, the first is {unknown[0]!r}.")
        numbers = [classes.index(label) for label in labels]
        vectors_of = class_embeddings(
            self.student, classes, self.templates, lambda done: self.progress("classes", done, len(classes))
        )
        return dict(zero_shot_metrics(images, vectors_of, numbers)) | {"templates": len(self.templates)}

    def _image_embeds(self, records: RecordDataset, vectors: dict[str, np.ndarray]) -> np.ndarray:
        """Vectors of every picture, made once a split."""
        if "images" not in vectors:
            rows = [
                _one_each(self.student.embed_images([record.load_image() for record in batch]), batch, "image vector")
                for batch in self._batches(records, "picture vectors")
            ]
            vectors["images"] = np.concatenate(rows)
        return vectors["images"]

    def _text_embeds(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of the texts; equal texts are embedded once, texts of like length together."""
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        rows = [
            _one_each(self.student.embed_texts(batch), batch, "text vector")
            for batch in self._batches(unique, "text vectors")
        ]
        position = {text: row for row, text in enumerate(unique)}
        return np.concatenate(rows)[[position[text] for text in texts]]

    def _batches(self, items: Sequence[Any], stage: str) -> Iterator[list[Any]]:
        for start in range(0, len(items), self.batch_size):
            yield [items[row] for row in range(start, min(start + self.batch_size, len(items)))]
            self.progress(stage, min(start + self.batch_size, len(items)), len(items))


TASKS: dict[str, Callable[[Evaluator, RecordDataset, dict[str, np.ndarray]], dict[str, Any]]] = {
    "retrieval": Evaluator._retrieval,
    "caption": Evaluator._caption,
    "vqa": Evaluator._vqa,
    "zero-shot": Evaluator._zero_shot,
}
"""Name on the command line -> what runs it."""

_NEEDS: dict[str, tuple[str, Callable[[Record], Any]]] = {
    "retrieval": ("captions", lambda record: record.captions),
    "caption": ("captions", lambda record: record.captions),
    "vqa": ("questions", lambda record: record.qa),
    "zero-shot": ("class labels", lambda record: record.label),
}


def _one_each(outputs: Any, inputs: Sequence[Any], what: str) -> Any:
    if len(outputs) != len(inputs):
        raise InvalidInputError(f"The model gave {len(outputs)} {what}s for {len(inputs)} inputs.")
    return outputs
