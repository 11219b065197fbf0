"""GLUE and XSum on a tiny student and small local files: what is learnt, scored, saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.models.vlkd import VlkdForSequenceClassification
from vlkd_training.finetune_text import run_text_finetune
from vlkd_training.recipe import load_recipe

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra: train)")

FAST = {"bf16": False, "report_to": "none", "disable_tqdm": True, "per_device_train_batch_size": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's cache stays in the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, **splits: list[dict[str, Any]]) -> str:
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(folder)


@pytest.fixture
def rte(tmp_path: Path) -> str:
    """Pairs whose second text names the first one's color, or another."""
    colors = ("red", "blue")
    rows = [
        {"sentence1": f"a {first} circle", "sentence2": f"{second} one", "label": int(first != second)}
        for first in colors
        for second in colors
    ]
    return write(tmp_path / "rte", train=rows * 4, validation=rows)


def test_a_pair_is_learnt(tiny_student: Path, rte: str, tmp_path: Path) -> None:
    """Whether two texts name one color can be told from neither alone; the classifier that is saved tells it."""
    settings = FAST | {"max_steps": 100, "learning_rate": 2e-2, "lamb": False, "per_device_train_batch_size": 16}
    metrics = run_text_finetune("vlkd-glue", rte, str(tiny_student), tmp_path / "out", task="rte", overrides=settings)
    assert metrics["validation/accuracy"] == 1.0
    saved = VlkdForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert saved.config.id2label == {0: "entailment", 1: "not_entailment"}
    assert json.loads((tmp_path / "out" / "train_metrics.json").read_text())["validation/accuracy"] == 1.0
    assert json.loads((tmp_path / "out" / "lineage.json").read_text())["task"] == "rte"
    assert (tmp_path / "out" / "classification_vlkd.py").is_file()


def test_the_recipes_are_the_papers() -> None:
    """Appendix A: LAMB, ten epochs, warm-up over the first, linear to zero, a point of the grid; XSum as BART."""
    glue = load_recipe("vlkd-glue", "finetune").phases[0].train
    assert glue["lamb"] and glue["num_train_epochs"] == 10 and glue["warmup_steps"] == 0.1
    assert glue["lr_scheduler_type"] == "linear"
    assert glue["per_device_train_batch_size"] in (16, 32, 64)
    assert glue["learning_rate"] in (1e-4, 5e-4, 1e-3) and glue["weight_decay"] in (1e-4, 1e-3)
    phase = load_recipe("vlkd-xsum", "finetune").phases[0]
    assert (phase.train["learning_rate"], phase.train["max_steps"], phase.train["warmup_steps"]) == (3e-5, 15000, 500)
    assert phase.method_options == {"label_smoothing": 0.1} and phase.train["max_grad_norm"] == 0.1
    assert phase.data["generate"]["num_beams"] == 6 and phase.data["max_length"] == 1024
