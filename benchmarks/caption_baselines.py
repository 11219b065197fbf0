"""Caption scores that need no generating model, to hold a captioner against.

    python benchmarks/caption_baselines.py TEACHER --data DATA [--split test] [--json FILE]

Three baselines, each fixed on the training split: one constant sentence (the training caption that is closest to all
others in the teacher's text space), the first caption of the nearest training picture, and the training caption that
the teacher scores highest for the picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from vlkd_hub.inference import TorchStudent
from vlkd_training.data import load_records
from vlkd_training.evaluation.captioning import caption_metrics


def main() -> None:
    """Score the three baselines and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="folder of an aligned teacher or a CLIP")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    teacher = TorchStudent.from_pretrained(options.teacher, batch_size=64)
    train, held_out = load_records(options.data, "train"), load_records(options.data, options.split)
    references = [list(record.captions) for record in held_out]
    captions = [caption for record in train for caption in record.captions]
    texts = teacher.embed_texts(captions)
    train_images = embed(teacher, train)
    images = embed(teacher, held_out)
    constant = captions[int(np.argmax(texts @ texts.mean(axis=0)))]
    nearest = [train[int(row)].captions[0] for row in np.argmax(images @ train_images.T, axis=1)]
    best = [captions[int(row)] for row in np.argmax(images @ texts.T, axis=1)]
    report = {
        "constant": {"sentence": constant, **score([constant] * len(held_out), references)},
        "nearest_picture": score(nearest, references),
        "best_scoring_caption": score(best, references),
    }
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def embed(teacher: TorchStudent, records) -> np.ndarray:
    """Embed the pictures of a split a few at a time."""
    rows = [
        teacher.embed_images([record.load_image() for record in records[start : start + 64]])
        for start in range(0, len(records), 64)
    ]
    return np.concatenate(rows)


def score(captions: list[str], references: list[list[str]]) -> dict[str, float]:
    """CIDEr (1.0 is the 100 of the usual scale) and BLEU-4."""
    found = caption_metrics(captions, references)
    return {name: round(found[name], 4) for name in ("cider", "bleu4")}


if __name__ == "__main__":
    main()
