"""A few numbers of a student on one split, in points, for whoever decides by them (entry point ``vlkd.evaluators``).

The export's autopilot asks for them many times; METEOR, SPICE, baselines and examples are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError
from vlkd_training.data.open import load_records
from vlkd_training.evaluation.evaluator import Evaluator
from vlkd_training.evaluation.protocol import Student
from vlkd_training.evaluation.tokenizer import tokenize

__all__ = ["SplitScores"]

_CUTS = ("r@1", "r@5", "r@10")


class SplitScores:
    """Scores of one split, which is read once.

    Args:
        data: as ``vlkd evaluate`` takes it.
        split: of it.
        limit: only the first pictures; None takes all.

    Raises:
        DataError: there is no such data or split, or it has neither captions nor questions.
    """

    def __init__(self, data: str, split: str, limit: int | None = None) -> None:
        self.records = load_records(data, split, limit)
        self.tasks: tuple[str, ...] = ()
        if any(record.captions for record in self.records):
            self.tasks += ("retrieval", "caption")
        if any(record.qa for record in self.records):
            self.tasks += ("vqa",)
        if not self.tasks:
            raise DataError(f"{data}, {split}: no captions and no questions, so there is nothing to score.")

    @property
    def counts(self) -> dict[str, int]:
        """Measure -> how many queries or questions it is the mean of."""
        captions = sum(len(record.captions) for record in self.records)
        pictures = sum(bool(record.captions) for record in self.records)
        found = {f"{prefix}{cut}": n for prefix, n in (("", captions), ("i2t_", pictures)) for cut in _CUTS}
        return found | {"vqa": sum(len(record.qa) for record in self.records)}

    def __call__(self, student: Student, tasks: Sequence[str], batch_size: int = 32) -> dict[str, float]:
        """Score ``student``.

        Args:
            student: torch or ONNX.
            tasks: some of :attr:`tasks`.
            batch_size: pictures, texts or questions at a time.

        Returns:
            ``r@1``, ``r@5``, ``r@10`` (text to image), the same with ``i2t_`` (image to text), ``cider``, ``vqa``:
            those that the tasks have, each 0 to 100 (CIDEr: 100 times the score).
        """
        found: dict[str, float] = {}
        evaluator = Evaluator(student=student, batch_size=batch_size)
        asked = [task for task in tasks if task in ("retrieval", "vqa")]
        if asked:
            report = evaluator.evaluate(self.records, asked)
            if "retrieval" in report:
                for way, prefix in (("text_to_image", ""), ("image_to_text", "i2t_")):
                    found |= {f"{prefix}{cut}": 100 * report["retrieval"][way][cut] for cut in _CUTS}
            if "vqa" in report:
                found["vqa"] = 100 * report["vqa"]["accuracy"]
        if "caption" in tasks:
            found["cider"] = self._cider(student, batch_size)
        return found

    def _cider(self, student: Student, batch_size: int) -> float:
        kept = [record for record in self.records if record.captions]
        written: list[str] = []
        for start in range(0, len(kept), batch_size):
            written += student.caption([record.load_image() for record in kept[start : start + batch_size]])
        references = [list(record.captions) for record in kept]
        tokens, _ = tokenize([*written, *(text for texts in references for text in texts)])
        rest = iter(tokens[len(written) :])
        expected = {row: [next(rest) for _ in texts] for row, texts in enumerate(references)}
        candidates = {row: [text] for row, text in enumerate(tokens[: len(written)])}
        score, _ = require("pycocoevalcap.cider.cider", "train").Cider().compute_score(expected, candidates)
        return 100 * float(score)
