"""The ladder of VLKD: which data it is run on, and what a run's result depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_training.build import TEXT_START, load_teacher
from vlkd_training.cache import weights_fingerprint
from vlkd_training.data import load_records
from vlkd_training.paper.jobs import Comparison, Job, Tell
from vlkd_training.paper.vlkd_jobs import PHOTOS, SCENES, Domain, comparisons, jobs
from vlkd_training.paper.vlkd_runs import VlkdRuns
from vlkd_training.recipe import load_recipe, suggestion

__all__ = ["VlkdLadder"]


class VlkdLadder:
    """VLKD on the data sets that are given.

    Args:
        work: the weights that later runs start from, teachers and features lie there.
        data: ``scenes``, ``photos`` and ``questions`` -> where; ``photos`` and ``questions`` go together.
        teachers: ``scenes`` and ``photos`` -> folder of an aligned teacher; one that is not given is aligned first.
        domains: other settings than the built-in ones.

    Raises:
        InvalidInputError: a name is unknown, or there is no data.
    """

    name = "vlkd"
    title = "VLKD (002_330011b7ef9ac362.txt)"

    def __init__(
        self,
        work: Path,
        data: dict[str, str],
        teachers: dict[str, str] | None = None,
        domains: Sequence[Domain] = (SCENES, PHOTOS),
    ) -> None:
        _check_names("--data", data, {name for domain in domains for name in (domain.captions, domain.questions)})
        _check_names("--teacher", teachers or {}, {domain.name for domain in domains})
        self.data, self.given = data, teachers or {}
        self.known = domains
        self.domains = [domain for domain in domains if domain.captions in data]
        for domain in self.domains:
            if domain.questions not in data:
                raise InvalidInputError(
                    f"--data {domain.captions}=... is asked {domain.questions}: give --data {domain.questions}=... too."
                )
        if not self.domains:
            raise InvalidInputError(
                "No captions to distil on: give --data scenes=scenes:4000, or photos and questions."
            )
        self._runs = {
            domain.name: VlkdRuns(
                domain, data[domain.captions], data[domain.questions], self.given.get(domain.name), work
            )
            for domain in self.domains
        }
        self._fingerprints: dict[str, str] = {}

    @property
    def about(self) -> str:
        """What the reader of the report must know first."""
        return (
            "Every student has paraphrase-MiniLM-L3-v2 as its text encoder; the frozen teacher's text tower is another "
            "model, all-MiniLM-L6-v2 behind a projection (unless --teacher gave one of its own), as the paper's BART "
            "and CLIP are two. The decoder is BART-style, of 2 layers, from random weights; the image tower is the "
            "teacher's, frozen, its outputs read from the feature cache. The decoder is pre-trained once a seed by "
            "span infilling on training texts without pictures (captions, and questions with their answers in one "
            "line), which stands for BART's pre-training; every distillation of that seed starts from it. Zero-shot "
            "means that no question was ever seen with a picture, and that captions were only seen with "
            "words masked: between 15 % of them and all (one table compares it with the paper's 15 %). Runs of one "
            "table take the same number of steps of the same batch. All scores are on pictures "
            "that no run trained on; CIDEr is 100 times pycocoevalcap's, captions are greedy."
        )

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return jobs(self.domains, [domain.name for domain in self.domains if domain.name not in self.given], seeds)

    def comparisons(self) -> tuple[Comparison, ...]:
        return comparisons(self.known)

    def facts(self, job: Job) -> dict[str, Any]:
        domain = self._domain(job)
        names = {domain.captions, domain.questions}
        found: dict[str, Any] = {f"data set {name}": self._fingerprint(name) for name in sorted(names)}
        if job.kind == "teacher":
            return found | {"recipe": dataclasses.asdict(load_recipe(domain.align, "align"))}
        teacher = self.given.get(domain.name)
        if teacher is not None:
            found["teacher"] = self._teacher_fingerprint(teacher)
        phases = {"features": -1, "language": 0}
        recipe = dataclasses.asdict(load_recipe(domain.distil, "distill"))
        recipe["phases"] = recipe["phases"][: phases.get(job.kind, 1) + 1]
        if job.kind in ("distil", "finetune"):
            task = domain.finetune[job.changes.get("task", "answers")]
            found["start of W_e"] = job.changes.get("start", TEXT_START)
            found["recipe of the fine-tuning"] = dataclasses.asdict(load_recipe(task, "finetune"))
        return found | {"recipe": recipe}

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        return self._runs[job.data].run(job, folder, tell)

    def _domain(self, job: Job) -> Domain:
        return next(domain for domain in self.domains if domain.name == job.data)

    def _fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            self._fingerprints[name] = load_records(self.data[name], "train").fingerprint
        return self._fingerprints[name]

    def _teacher_fingerprint(self, teacher: str) -> str:
        if teacher not in self._fingerprints:
            self._fingerprints[teacher] = weights_fingerprint(load_teacher(teacher)[0])
        return self._fingerprints[teacher]


def _check_names(option: str, given: dict[str, str], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise InvalidInputError(f"{option}: there is no {name!r}.{suggestion(name, known)}")
