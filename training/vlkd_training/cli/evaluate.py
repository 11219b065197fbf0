"""`vlkd evaluate`: measure a model on splits of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlkd_hub.errors import DataError
from vlkd_hub.reports import write_report
from vlkd_training.data.jsonl import read_jsonl
from vlkd_training.data.open import load_records, stream_records
from vlkd_training.data.records import QuestionAnswer
from vlkd_training.evaluation.evaluator import Evaluator
from vlkd_training.evaluation.median_rank import parse_splits
from vlkd_training.evaluation.models import open_model
from vlkd_training.evaluation.report import notes, tables
from vlkd_training.evaluation.templates import TEMPLATES

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a torch model, or folder of a bundle.")],
    data: Annotated[str, typer.Option(help="Folder with splits, COCO .json, easy-vqa, webdataset:..., or a Hub id.")],
    split: Annotated[list[str], typer.Option(help="Split to measure on; may be given several times.")],
    tasks: Annotated[
        str, typer.Option(help="Any of retrieval, caption, vqa, zero-shot, joined by commas.")
    ] = "retrieval,caption,vqa",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pictures of each split.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures, texts or questions at a time.")] = 64,
    num_beams: Annotated[int | None, typer.Option(min=1, help="Beams; the model's own number when left out.")] = None,
    train_split: Annotated[str, typer.Option(help="Split of the most-frequent-answer baseline.")] = "train",
    templates: Annotated[
        int, typer.Option(min=1, max=len(TEMPLATES), help="Sentences around a class name, for zero-shot.")
    ] = len(TEMPLATES),
    median_rank: Annotated[
        str | None,
        typer.Option(help="SHRe's average median rank over SPLITSxPICTURES, such as 5x1000.", metavar="KxN"),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of a torch model.")] = "cpu",
) -> None:
    """Measure search, captions and answers of a model, each beside what guessing would get."""
    console = Console()
    names = [task.strip() for task in tasks.split(",") if task.strip()]
    ranks = None if median_rank is None else parse_splits(median_rank)
    splits = {name: load_records(data, name, limit) for name in dict.fromkeys(split)}
    opened = open_model(model, batch_size=batch_size, device=device)
    report: dict[str, Any] = {"model": model, "data": data}
    report |= {"parameters": opened.parameters, "size_bytes": opened.size_bytes, "splits": {}}
    with _progress(console) as bar:
        for name, records in splits.items():
            evaluator = Evaluator(
                student=opened.student,
                batch_size=batch_size,
                num_beams=num_beams,
                train_questions=lambda: _train_questions(data, train_split, console),
                classes=_class_names(data),
                templates=TEMPLATES[:templates],
                median_rank=ranks,
                progress=_Bars(bar, name),
            )
            report["splits"][name] = evaluator.evaluate(records, names)
    for name, measured in report["splits"].items():
        for table in tables(name, measured):
            console.print(table)
        for note in notes(name, measured):
            console.print(note, highlight=False, markup=False)
    if json_path is not None:
        write_report(json_path, report)


class _Bars:
    """One bar for each stage of a split."""

    def __init__(self, bar: Progress, split: str) -> None:
        self.bar, self.split = bar, split
        self.ids: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.ids:
            self.ids[stage] = self.bar.add_task(f"{self.split}: {stage}", total=total)
        self.bar.update(self.ids[stage], completed=done)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _train_questions(data: str, split: str, console: Console) -> Sequence[QuestionAnswer]:
    """Questions of the training split, none where it is not there: then the baseline is left out, and said so."""
    try:
        return [item for record in stream_records(data, split) for item in record.qa]
    except DataError as error:
        console.print(f"No most-frequent-answer baseline: {error}")
        return []


def _class_names(data: str) -> list[str] | None:
    """Every class of the set, where ``classes.jsonl`` lists them; else the split's own labels count."""
    path = Path(data) / "classes.jsonl"
    if not path.is_file():
        return None
    return sorted({str(fields["class_name"]) for _, fields in read_jsonl(path) if "class_name" in fields})
