"""Draw the good and the bad searches and captions of an evaluation as one picture.

    python benchmarks/example_sheet.py EVALUATION.json --data DATA --output SHEET.png [--split test]

EVALUATION.json comes from `vlkd evaluate --json`; DATA is the folder of pictures it was measured on. Only for pictures
that may be shown: the made-up scenes, or your own.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TEXT = 150, 12, 380
EACH = 3
INK, FAINT, GOOD, BAD = "#1c1c22", "#6b6b76", "#1d7f46", "#b3382c"


def main() -> None:
    """Draw one row an example: three good and three bad searches, then captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    found = json.loads(options.evaluation.read_text())["splits"][options.split]
    rows = [_search_row(example) for example in _ends(found["retrieval"]["examples"])]
    captions = _ends(found["caption"]["examples"])
    rows += [_caption_row(example, place < EACH) for place, example in enumerate(captions)]
    sheet = draw(rows, options.data / options.split)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, optimize=True)


def _ends(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*examples[:EACH], *examples[-EACH:]]


def _search_row(example: dict[str, Any]) -> dict[str, Any]:
    pictures = example["found"] + ([] if example["id"] in example["found"] else [example["id"]])
    return {
        "head": f"search, right picture at rank {example['rank']}",
        "good": example["rank"] == 1,
        "lines": [example["text"]],
        "pictures": pictures,
        "right": example["id"],
    }


def _caption_row(example: dict[str, Any], good: bool) -> dict[str, Any]:
    lines = [example["caption"], f"a reference: {example['references'][0]}"]
    head = f"caption, one of the {'best' if good else 'worst'} by CIDEr"
    return {"head": head, "good": good, "lines": lines, "pictures": [example["id"]], "right": None}


def draw(rows: list[dict[str, Any]], folder: Path) -> Image.Image:
    """Put the rows under each other: words at the left, pictures at the right, the right picture framed."""
    columns = max(len(row["pictures"]) for row in rows)
    sheet = Image.new("RGB", (TEXT + columns * (SIDE + GAP) + GAP, len(rows) * (SIDE + GAP) + GAP), "white")
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(13), ImageFont.load_default(16)
    for number, row in enumerate(rows):
        top = GAP + number * (SIDE + GAP)
        pen.text((GAP, top), row["head"], GOOD if row["good"] else BAD, font=small)
        height = top + 22
        for place, line in enumerate(row["lines"]):
            font, ink, width = (large, INK, 44) if place == 0 else (small, FAINT, 52)
            words = textwrap.fill(line, width)
            pen.multiline_text((GAP, height), words, ink, font=font)
            height += 8 + (words.count("\n") + 1) * (font.size + 5)
        for column, name in enumerate(row["pictures"]):
            left = TEXT + column * (SIDE + GAP)
            with Image.open(folder / name) as picture:
                sheet.paste(picture.convert("RGB").resize((SIDE, SIDE)), (left, top))
            if name == row["right"]:
                pen.rectangle((left - 3, top - 3, left + SIDE + 2, top + SIDE + 2), outline=GOOD, width=3)
    return sheet


if __name__ == "__main__":
    main()
