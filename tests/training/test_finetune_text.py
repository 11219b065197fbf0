"""GLUE and XSum on a tiny student and small local files: what is learnt, scored, saved and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.optim import Lamb

from vlkd_hub.cli import main
from vlkd_hub.errors import RecipeError, WeightsError
from vlkd_hub.models.vlkd import VlkdForConditionalGeneration, VlkdForSequenceClassification
from vlkd_training.finetune_text import run_text_finetune
from vlkd_training.recipe import load_recipe

from .toy import make_trainer

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


@pytest.fixture
def xsum(tmp_path: Path) -> str:
    rows = [
        {"document": f"there are two {color} circle . one is a {color} one", "summary": color}
        for color in ("red", "blue")
    ]
    return write(tmp_path / "xsum", train=rows * 4, validation=rows)


@pytest.mark.slow
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


def test_a_regression_and_two_splits(tiny_student: Path, tmp_path: Path) -> None:
    """STS-B has one output and correlations; MNLI is scored on both of its splits."""
    rows = [{"sentence1": "a circle", "sentence2": "a square", "label": score} for score in (0.5, 4.0, 2.5, 5.0)]
    stsb = write(tmp_path / "stsb", train=rows, validation=rows)
    settings = FAST | {"max_steps": 1}
    found = run_text_finetune("vlkd-glue", stsb, str(tiny_student), tmp_path / "a", task="stsb", overrides=settings)
    assert {name for name in found if "/" in name} == {"validation/pearson", "validation/spearman"}
    rows = [{"premise": "a circle", "hypothesis": "a square", "label": label} for label in (0, 1, 2, 0)]
    mnli = write(tmp_path / "mnli", train=rows, validation_matched=rows, validation_mismatched=rows[:3])
    found = run_text_finetune("vlkd-glue", mnli, str(tiny_student), tmp_path / "b", task="mnli", overrides=settings)
    assert {name for name in found if "/" in name} == {
        "validation_matched/accuracy",
        "validation_mismatched/accuracy",
    }


@pytest.mark.parametrize("steps", [2, pytest.param(240, marks=pytest.mark.slow)])
def test_a_summary_is_learnt(tiny_student: Path, xsum: str, tmp_path: Path, steps: int) -> None:
    """The decoder reads W'_e W_e E with no picture, writes the word that matters, and is saved as a student."""
    settings = FAST | {"max_steps": steps, "learning_rate": 1e-2, "warmup_steps": 0, "gradient_accumulation_steps": 1}
    recipe = tmp_path / "short.yaml"
    text = (Path(__file__).parents[2] / "training" / "recipes" / "vlkd-xsum.yaml").read_text()
    recipe.write_text(
        text.replace("min_new_tokens: 10", "min_new_tokens: 1").replace("max_new_tokens: 60", "max_new_tokens: 3")
    )
    metrics = run_text_finetune(recipe, xsum, str(tiny_student), tmp_path / "out", overrides=settings)
    assert 0 <= metrics["validation/rougeL"] <= metrics["validation/rouge1"] <= 1.0
    assert steps < 100 or metrics["validation/rouge1"] == 1.0
    assert VlkdForConditionalGeneration.from_pretrained(tmp_path / "out").config.architectures == [
        "VlkdForConditionalGeneration"
    ]


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


def test_lamb_is_timms_with_our_settings(tiny_student: Path, tmp_path: Path) -> None:
    """Decay on matrices only, betas and eps as given, no clipping of its own; a frozen tower is not in it."""
    trainer = make_trainer(tiny_student, tmp_path, lamb=True, weight_decay=1e-3, adam_beta2=0.9, adam_epsilon=1e-6)
    trainer.train()
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert isinstance(optimizer, Lamb)
    assert optimizer.defaults["max_grad_norm"] is None and optimizer.defaults["betas"] == (0.9, 0.9)
    assert optimizer.defaults["eps"] == 1e-6
    decays = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert set(decays) == {0.0, 1e-3}
    assert all(parameter.dim() != 1 for parameter in decays[1e-3])  # the temperature has no dimension
    count = sum(len(parameters) for parameters in decays.values())
    assert count == sum(parameter.requires_grad for parameter in trainer.model.parameters())


def test_what_does_not_fit_is_refused(tiny_student: Path, rte: str, xsum: str, tmp_path: Path) -> None:
    """A task too few, one too many, a recipe of pictures, a student with holes."""
    student, out = str(tiny_student), tmp_path / "out"
    with pytest.raises(RecipeError, match="Name the task of GLUE with --task: cola, sst2"):
        run_text_finetune("vlkd-glue", rte, student, out)
    with pytest.raises(RecipeError, match="vlkd-xsum has none; leave it out"):
        run_text_finetune("vlkd-xsum", xsum, student, out, task="rte")
    with pytest.raises(RecipeError, match="one phase, of summarization or text_classification"):
        run_text_finetune("vlkd-scenes-finetune", rte, student, out)
    assert not out.exists()
    broken = tmp_path / "broken"
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student)
    weights = {name: value for name, value in model.state_dict().items() if name != "text_to_decoder.weight"}
    model.save_pretrained(broken, state_dict=weights)
    with pytest.raises(WeightsError, match="lacks 1 of the model's weights .the first: text_to_decoder.weight"):
        run_text_finetune("vlkd-glue", rte, str(broken), out, task="rte")


def test_the_verb(tiny_student: Path, rte: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`vlkd finetune vlkd-glue --task` prints points; a recipe of pictures takes no task."""
    line = ["--data", rte, "--model", str(tiny_student), "--output", str(tmp_path / "out"), "--task", "rte"]
    settings = [f"--set={name}={json.dumps(value)}" for name, value in (FAST | {"max_steps": 1}).items()]
    with pytest.raises(SystemExit) as done:
        main(["finetune", "vlkd-glue", *line, *settings])
    said = capsys.readouterr().out
    assert done.value.code == 0 and "validation/accuracy: " in said and "Student saved to" in said
    with pytest.raises(SystemExit) as done:
        main(["finetune", "vlkd-scenes-finetune", *line])
    assert done.value.code != 0
    assert "learns from pictures; leave it out" in " ".join(capsys.readouterr().err.split())


def test_a_run_repeats_itself(tiny_student: Path, rte: str, tmp_path: Path) -> None:
    """Equal seeds give equal heads and batches; another seed another head."""
    settings = FAST | {"max_steps": 2}
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_text_finetune(
            "vlkd-glue", rte, str(tiny_student), tmp_path / name, task="rte", seed=seed, overrides=settings
        )
        model = VlkdForSequenceClassification.from_pretrained(tmp_path / name)
        found.append(model.classification_head.out_proj.weight)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
