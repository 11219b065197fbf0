"""The steps of the quickstart: which command line each one types, and what it reads and writes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["QUERY", "Step", "plan"]

QUERY = "a red circle"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One ``vlkd`` command line."""

    name: str
    title: str
    args: tuple[str, ...]
    """What follows ``vlkd``."""
    needs: tuple[str, ...]
    """Names of the steps whose output this one reads."""
    outputs: tuple[Path, ...]
    """Files and folders that it writes, all inside the work folder."""
    stdout: Path | None = None
    """Where what it prints goes; None for the terminal."""
    resumes: bool = False
    """Whether the verb takes ``--resume`` and goes on inside an interrupted run."""

    @property
    def line(self) -> str:
        """The line as a person would type it."""
        line = shlex.join(["vlkd", *self.args])
        return line if self.stdout is None else f"{line} > {shlex.quote(str(self.stdout))}"


def plan(folder: Path) -> list[Step]:
    """The steps in the order they run, with ``folder`` as the work folder."""
    data, teacher, distilled, student = (folder / n for n in ("data", "teacher", "distilled", "student"))
    bundle, index = folder / "bundle", folder / "index"
    teacher_json, student_json, export_json, bench_json, search_json = (
        folder / f"{n}.json" for n in ("teacher", "student", "export", "bench", "search")
    )

    def step(name: str, title: str, line: list[str | Path], needs: str, *outputs: Path) -> Step:
        args = tuple(str(word) for word in line)
        return Step(name=name, title=title, args=args, needs=tuple(needs.split()), outputs=outputs)

    sizes = "--train 4000 --validation 200 --test 500 --compositional 250 --size 160 --seed 0".split()
    splits = "--split test --split test_compositional --tasks retrieval,caption,vqa".split()
    golden: list[str | Path] = ["--golden", data, "--golden-split", "validation"]

    def training(name: str, title: str, line: list[str | Path], needs: str, output: Path) -> Step:
        return replace(step(name, title, line, needs, output), resumes=True)

    return [
        step("data", "Make the pictures, captions and questions", ["scenes", data, *sizes], "", data),
        training(
            "teacher",
            "Align two pretrained encoders into a CLIP-style teacher",
            ["align", "--recipe", "align-scenes", "--data", data, "--output", teacher],
            "data",
            teacher,
        ),
        training(
            "distil",
            "Distil the teacher into a student",
            ["distill", "vlkd-scenes", "--data", data, "--teacher", teacher, "--output", distilled],
            "data teacher",
            distilled,
        ),
        training(
            "finetune",
            "Fine-tune the student for captions and questions",
            ["finetune", "vlkd-scenes-finetune", "--data", data, "--model", distilled, "--output", student],
            "data distil",
            student,
        ),
        step(
            "evaluate-teacher",
            "Measure the teacher on pictures it has not seen",
            ["evaluate", teacher, "--data", data, "--split", "test", "--tasks", "retrieval", "--json", teacher_json],
            "data teacher",
            teacher_json,
        ),
        step(
            "evaluate-student",
            "Measure the student on pictures it has not seen",
            ["evaluate", student, "--data", data, *splits, "--json", student_json],
            "data finetune",
            student_json,
        ),
        step(
            "export",
            "Export to ONNX and hold it against the student, token for token",
            ["export", student, "--output", bundle, *golden, "--json", export_json],
            "data finetune",
            bundle,
            export_json,
        ),
        step(
            "bench",
            "Time one caption: torch against ONNX",
            ["bench", "caption", student, bundle, "--data", data, "--json", bench_json],
            "data finetune export",
            bench_json,
        ),
        step(
            "index",
            "Index the test pictures",
            ["index", "build", index, "--model", bundle, "--images", data / "test"],
            "data export",
            index,
        ),
        replace(
            step(
                "search",
                "Search them with a sentence",
                ["index", "search", index, "--model", bundle, "--text", QUERY, "--k", "5", "--json"],
                "export index",
                search_json,
            ),
            stdout=search_json,
        ),
    ]
