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
from collections import defaultdict
from collections.abc import Iterator
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
    """Measure both students of every seed, print a table and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("work", "teacher", "photos", "questions", "pairs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1000, help="held-out captions, and questions, to restore")
    parser.add_argument(
        "--alone", action="store_true", help="fine-tune the student from before on the sentence alone too"
    )
    parser.add_argument("--json", type=Path, help="numbers; what is in the file already is not measured again")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    if options.json and options.json.is_file():
        found = json.loads(options.json.read_text())
    for name, numbers in measure(options, found):
        print(f"{time.process_time():6.0f} s of CPU  {name}  {numbers}", flush=True)
        found[name] = numbers
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    groups: dict[str, list[float]] = defaultdict(list)
    for name, numbers in found.items():
        for measure_name, value in numbers.items():
            groups[f"{name.split('@')[0]}, {measure_name}"].append(value)
    for name, values in sorted(groups.items()):
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        print(f"{name:48} {np.mean(values):8.2f} ± {spread:.2f} ({len(values)} seeds)")


def measure(options: argparse.Namespace, found: dict[str, dict[str, float]]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield ``what, before or after@seed`` with its numbers: every perplexity first, then every fine-tuning.

    Args:
        options: of the command.
        found: what need not be measured.
    """
    students = Students(options)
    runs = [(seed, state) for seed in range(options.seeds) for state in ("before", "after")]
    for seed, state in runs:
        if (name := f"perplexity, {state}@{seed}") not in found:
            yield name, students.perplexities(seed, state)
    with TemporaryDirectory() as folder:
        tasks = {"pairs": write_pairs(options.photos, Path(options.pairs), Path(folder) / "pairs", premises=True)}
        if options.alone:
            tasks["alone"] = write_pairs(options.photos, Path(options.pairs), Path(folder) / "alone", premises=False)
        for task, data in tasks.items():
            for seed, state in runs:
                name = f"{task}, {state}@{seed}"
                if name not in found and (task == "pairs" or state == "before"):
                    yield name, students.accuracies(seed, state, data, Path(folder) / name)


class Students:
    """The students of every seed, before and after their distillation.

    Args:
        options: of the command.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.recipe = load_recipe("paper-vlkd-photos", "distill")
        work = Path(options.work)
        self.material = Material(self.recipe, options.teacher, options.photos, work / "features")
        self.weights = Weights(work / "weights", frozen="vlkd.vision_tower.")
        self.texts, self.images = held_out_texts(options.photos, options.questions, options.texts)
        self.photos = options.photos

    def load(self, seed: int, state: str) -> tuple[Any, Any]:
        """A student with its processor."""
        student, processor = self.material.student(seed)
        self.weights.take(f"photos/{'language' if state == 'before' else 'full'}@{seed}", student)
        return student, processor

    def perplexities(self, seed: int, state: str) -> dict[str, float]:
        """Of captions and of questions alone, and of captions with their picture."""
        student, processor = self.load(seed, state)
        tokens = self.material.held_out(self.photos, "test", None).tokens
        pictures = picture_source(tokens, self.recipe.student.image_features)
        found = {kind: infilling_perplexity(student, processor.tokenizer, some) for kind, some in self.texts.items()}
        found["captions with picture"] = infilling_perplexity(
            student, processor.tokenizer, self.texts["captions"], images=self.images, pictures=pictures
        )
        return found

    def accuracies(self, seed: int, state: str, data: Path, folder: Path) -> dict[str, float]:
        """Points on both held-out splits after fine-tuning."""
        save_model(*self.load(seed, state), folder / "start", {"seed": seed, "state": state})
        quiet = {"report_to": "none", "disable_tqdm": True}
        start, output = str(folder / "start"), folder / "tuned"
        metrics = run_text_finetune(RECIPE, str(data), start, output, task="mnli", seed=seed, overrides=quiet)
        return {split: 100 * metrics[f"{name}/accuracy"] for split, name in SPLITS.items() if split != "train"}


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
