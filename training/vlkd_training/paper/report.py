"""The tables of a ladder as Markdown, from the files of its finished runs alone."""

from __future__ import annotations

import math
from pathlib import Path

from vlkd_training.paper.curves import draw_curves
from vlkd_training.paper.jobs import Comparison, Ladder, Measure, Row
from vlkd_training.paper.results import Cell, Results

__all__ = ["BEGIN", "END", "verdict", "write_markdown"]

BEGIN, END = "<!-- ladder: begin -->", "<!-- ladder: end -->"
"""What stands between these lines is written anew; text around them is kept."""

_HOW = (
    "A cell is the mean over seeds ± their standard deviation; behind it, in brackets, the paper's number. Direction: "
    "whether this row stands to the first row as in the paper. Each seed is compared with the same seed of the first "
    "row: `agrees` and `disagrees` where all seeds say so, else how many of them agree. A single seed is marked."
)


def write_markdown(file: Path, ladder: Ladder, results: Results) -> None:
    """Write the report, its pictures in a folder beside it.

    Args:
        file: a Markdown file; one that holds the two marker lines keeps what stands around them.
        ladder: names the tables; its runs are not done and its data are not read.
        results: finished runs.
    """
    text = f"{BEGIN}\n\n{_body(file, ladder, results)}\n{END}\n"
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    if BEGIN in before and END in before:
        head, _, rest = before.partition(BEGIN)
        text = head + text + rest.partition(END)[2].removeprefix("\n")
    else:
        text = f"# {ladder.title}, in small\n\n{text}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def verdict(row: Cell, reference: Cell, paper: float, paper_reference: float) -> str:
    """Whether a row stands to the reference as in the paper, seed by seed."""
    differences = row.minus(reference)
    if not differences:
        return ""
    sign = math.copysign(1.0, paper - paper_reference)
    agreeing = sum(sign * value > 0 for value in differences.values())
    if 0 < agreeing < len(differences):
        return f"{agreeing} of {len(differences)} agree"
    word = "agrees" if agreeing else "disagrees"
    return f"{word} (one seed)" if len(differences) == 1 else word


def _body(file: Path, ladder: Ladder, results: Results) -> str:
    parts = [ladder.about, _HOW, _runs(results)]
    for comparison in ladder.comparisons():
        if any(results.seeds(row) for row in comparison.rows):
            parts += _section(file, comparison, results)
    return "\n\n".join(parts) + "\n"


def _runs(results: Results) -> str:
    """How much was run, and what it took."""
    runs = [run for seeds in results.runs.values() for run in seeds.values()]
    seconds = sum(run["seconds"] for run in runs)
    loads = sorted(run["load"] for run in runs if "load" in run)
    load = f"; load average before a run {loads[0]} to {loads[-1]}" if loads else ""
    return f"{len(runs)} finished runs, {seconds / 60:.0f} minutes{load}."


def _section(file: Path, comparison: Comparison, results: Results) -> list[str]:
    parts = [f"## {comparison.title}", f"Paper: {comparison.source}. {comparison.note}", _table(comparison, results)]
    guesses = [text for measure in comparison.measures if (text := _guess(comparison, measure, results))]
    if guesses:
        parts.append("Without looking at the picture: " + "; ".join(guesses) + ".")
    picture = file.parent / file.stem / f"{comparison.name}.svg"
    if draw_curves(comparison, results, picture):
        alt = f"Loss curves: {comparison.title}; in brackets the number of seeds"
        parts.append(f"![{alt}]({file.stem}/{picture.name})")
    return parts


def _table(comparison: Comparison, results: Results) -> str:
    measures = comparison.measures
    heads = ["", *(measure.title for measure in measures), "direction", "seeds"]
    lines = [heads, ["---", *["---:"] * len(measures), "---", "---:"]]
    reference = comparison.rows[0]
    for row in comparison.rows:
        cells = [_cell(results.cell(row, measure.key), row.paper.get(measure.key)) for measure in measures]
        direction = "; ".join(
            text
            for measure in measures
            if row is not reference and (text := _direction(row, reference, measure, results))
        )
        lines.append([row.title, *cells, direction, str(len(results.seeds(row)))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _direction(row: Row, reference: Row, measure: Measure, results: Results) -> str:
    if measure.key not in row.paper or measure.key not in reference.paper:
        return ""
    ours, theirs = results.cell(row, measure.key), results.cell(reference, measure.key)
    found = verdict(ours, theirs, row.paper[measure.key], reference.paper[measure.key])
    return f"{measure.title.split(',')[0]} {found}" if found else ""


def _cell(cell: Cell, paper: float | None) -> str:
    told = f" [{paper:.1f}]" if paper is not None else ""
    if not cell.values:
        return f"-{told}"
    spread = f" ± {cell.spread:.1f}" if cell.spread is not None else ""
    return f"{cell.mean:.1f}{spread}{told}"


def _guess(comparison: Comparison, measure: Measure, results: Results) -> str:
    """What a guess would get in place of the first row that has it."""
    if not measure.guess:
        return ""
    for row in comparison.rows:
        cell = results.cell(Row(title="", run=row.run), measure.guess)
        if cell.values:
            what = (
                "the same captions on other pictures" if "shuffled" in measure.guess else "the usual answer of a type"
            )
            return f"{measure.title.split(',')[0]} {cell.mean:.1f} ({what}; {row.title})"
    return ""
