"""The ladder of S-SMKE: which data it is run on, and what a run's result depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data import load_records
from vlkd_training.paper.jobs import Comparison, Job, Tell
from vlkd_training.paper.smke_jobs import PHOTOS, SCENES, SmkeDomain, comparisons, jobs
from vlkd_training.paper.smke_runs import SmkeRuns
from vlkd_training.recipe import load_recipe, suggestion

__all__ = ["SmkeLadder"]


class SmkeLadder:
    """S-SMKE and Transformer SHRe on the data sets that are given.

    Args:
        work: features and quantizers lie there.
        data: ``scenes`` and ``photos`` -> where.
        teachers: none; the recipe names the image teacher.
        domains: other settings than the built-in ones.

    Raises:
        InvalidInputError: a name is unknown, there is no data, or a teacher was given.
    """

    name = "smke"
    title = "S-SMKE and Transformer SHRe (004_3cb4412af0da3ec5.txt)"

    def __init__(
        self,
        work: Path,
        data: dict[str, str],
        teachers: dict[str, str] | None = None,
        domains: Sequence[SmkeDomain] = (PHOTOS, SCENES),
    ) -> None:
        names = {domain.name for domain in domains}
        for name in data:
            if name not in names:
                raise InvalidInputError(f"--data: there is no {name!r}.{suggestion(name, names)}")
        if teachers:
            raise InvalidInputError("--teacher: this ladder's recipe names its image teacher itself; leave it out.")
        self.data, self.known = data, domains
        self.domains = [domain for domain in domains if domain.name in data]
        if not self.domains:
            raise InvalidInputError("No captions to align on: give --data scenes=scenes:4000 or --data photos=FOLDER.")
        self._runs = {domain.name: SmkeRuns(domain, data[domain.name], work) for domain in self.domains}
        self._fingerprints: dict[str, str] = {}

    @property
    def about(self) -> str:
        """What the reader of the report must know first."""
        return (
            "Every student has EfficientNet-Lite0 (ImageNet) as its image encoder and the first 3 layers of "
            "all-MiniLM-L6-v2 as its text encoder, both frozen, their outputs read from the feature cache; what learns "
            "is a linear map of the patches, the shared encoder and its head. The class token of the picture is the "
            "mean of its patches, that of a text the mean of its tokens, since these two encoders were trained so. "
            "The teacher is EfficientNet-Lite0 too: its ImageNet class distribution where the thesis has ResNet-50's, "
            "its pooled features where the thesis has BEiT v2's class token. They are no self-supervised features; no "
            "such model installs without a hub. All runs on one data set take the same number of steps of the same "
            "batch, at the same learning rate. Scores are on test pictures that no run trained on."
        )

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return jobs(self.domains, seeds)

    def comparisons(self) -> tuple[Comparison, ...]:
        return comparisons(self.known)

    def facts(self, job: Job) -> dict[str, Any]:
        domain = next(domain for domain in self.domains if domain.name == job.data)
        found: dict[str, Any] = {"data set": self._fingerprint(job.data)}
        if job.kind == "quantizer" or job.changes.get("method", {}).get("target") == "codes":
            found["quantizer"] = dataclasses.asdict(load_recipe(domain.quantizer, "quantize-images"))
        if job.kind != "quantizer":
            found |= {"recipe": dataclasses.asdict(load_recipe(domain.recipe, "smke")), "captions": domain.captions}
        return found

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        return self._runs[job.data].run(job, folder, tell)

    def _fingerprint(self, name: str) -> str:
        if name not in self._fingerprints:
            self._fingerprints[name] = load_records(self.data[name], "train").fingerprint
        return self._fingerprints[name]
