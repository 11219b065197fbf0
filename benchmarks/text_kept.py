"""Whether distillation leaves the language: the same student before and after it, on texts alone.

    vlkd bench paper vlkd --only 'photos/full' ...      # leaves the students of every seed in .paper/vlkd/weights
    python benchmarks/text_kept.py --work .paper/vlkd --teacher PHOTO_TEACHER \
        --photos FLICKR --questions DAQUAR --pairs SNLI_VE [--seeds 3] [--json FILE]

Before is the student whose decoder was pre-trained by span infilling on texts, which stands for the paper's BART; after
is the same one distilled with all three losses. Both restore held-out captions and questions without a picture
(perplexity), and captions with their picture, which is what distillation trains. Both are fine-tuned equally to tell
whether a caption entails, contradicts or leaves open a sentence (SNLI: caption and sentence are the pair, the picture
is not shown); with --alone the first one once more on the sentence alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vlkd_training.data import load_records
from vlkd_training.data.jsonl import read_jsonl
from vlkd_training.data.snli_ve import LABELS
from vlkd_training.evaluation.infilling import infilling_perplexity
from vlkd_training.finetune_text import run_text_finetune
from vlkd_training.paper.material import Material, picture_source
from vlkd_training.paper.training import Weights
from vlkd_training.recipe import load_recipe
from vlkd_training.rows import CaptionRows
from vlkd_training.saving import save_model

RECIPE = "paper-vlkd-text"
SPLITS = {"train": "train", "validation": "validation_mismatched", "test": "validation_matched"}
"""Split of the pairs -> the name that MNLI has for such a one; both of the last two are scored."""


def main() -> None:
    """Measure both students of every seed, print a table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("work", "teacher", "photos", "questions", "pairs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1000, help="held-out captions, and questions, to restore")
    parser.add_argument(
        "--alone", action="store_true", help="fine-tune the student from before on the sentence alone too"
    )
    parser.add_argument("--epochs", type=float, help="passes of the fine-tuning, in the place of the recipe's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    found = measure(options)
    for state in ("before", "after"):
        for name in found[0][state]:
            values = np.array([seed[state][name] for seed in found])
            print(f"{state:7} {name:36} {values.mean():8.2f} ± {values.std(ddof=1) if len(values) > 1 else 0:.2f}")
    print(f"{time.monotonic() - start:.0f} s, {time.process_time():.0f} s of CPU")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(options: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    """For each seed, ``before`` and ``after`` -> name -> number."""
    work = Path(options.work)
    recipe = load_recipe("paper-vlkd-photos", "distill")
    material = Material(recipe, options.teacher, options.photos, work / "features")
    weights = Weights(work / "weights", frozen="vlkd.vision_tower.")
    texts, images = held_out_texts(options.photos, options.questions, options.texts)
    tokens = picture_source(material.held_out(options.photos, "test", None).tokens, recipe.student.image_features)
    changed = {} if options.epochs is None else {"num_train_epochs": options.epochs}
    changed |= {"report_to": "none", "disable_tqdm": True}
    found = []
    with TemporaryDirectory() as folder:
        pairs = write_pairs(options.photos, Path(options.pairs), Path(folder) / "pairs", premises=True)
        alone = write_pairs(options.photos, Path(options.pairs), Path(folder) / "alone", premises=False)
        for seed in range(options.seeds):
            rows: dict[str, dict[str, float]] = {}
            for state, run in (("before", "language"), ("after", "full")):
                student, processor = material.student(seed)
                weights.take(f"photos/{run}@{seed}", student)
                rows[state] = {
                    f"perplexity, {kind}": infilling_perplexity(student, processor.tokenizer, some)
                    for kind, some in texts.items()
                }
                rows[state]["perplexity, captions with picture"] = infilling_perplexity(
                    student, processor.tokenizer, texts["captions"], images=images, pictures=tokens
                )
                here = Path(folder) / f"{state}-{seed}"
                save_model(student, processor, here, {"run": run})
                tasks = {"pairs": pairs} | ({"sentence alone": alone} if options.alone and state == "before" else {})
                for kind, data in tasks.items():
                    metrics = run_text_finetune(
                        RECIPE, str(data), str(here), here / kind, task="mnli", seed=seed, overrides=changed
                    )
                    for split, name in (("test", "validation_matched"), ("validation", "validation_mismatched")):
                        rows[state][f"accuracy, {kind}, {split}"] = 100 * metrics[f"{name}/accuracy"]
                print(seed, state, rows[state], flush=True)
            found.append(rows)
    return found


def held_out_texts(photos: str, questions: str, count: int) -> tuple[dict[str, list[str]], list[int]]:
    """Captions and questions of the test splits, as the decoder's pre-training reads them; the captions' pictures."""
    captions = CaptionRows(load_records(photos, "test")).subset(count, seed=0)
    asked = [
        f"{item.question} Answer: {', '.join(sorted(set(item.answers)))}."
        for record in load_records(questions, "test")
        for item in record.qa
        if item.answers
    ]
    chosen = np.random.default_rng(0).permutation(len(asked))[:count]
    return {"captions": captions.texts, "questions": [asked[row] for row in chosen]}, captions.images


def write_pairs(photos: str, pairs: Path, folder: Path, *, premises: bool) -> Path:
    """SNLI's pairs in MNLI's columns: the premise is the caption that the pair's id names (``PICTURE#CAPTIONr...``)."""
    folder.mkdir(parents=True)
    for split, name in SPLITS.items():
        captions = {Path(str(record.image_path)).name: record.captions for record in load_records(photos, split)}
        lines: list[dict[str, Any]] = []
        for _, fields in read_jsonl(pairs / f"{split}.jsonl"):
            picture, caption = fields["pair_id"].split("#")
            premise = captions[picture][int(caption[0])] if premises else ""
            label = LABELS.index(fields["label"])
            lines.append({"premise": premise, "hypothesis": fields["hypothesis"], "label": label})
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
