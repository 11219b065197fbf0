"""The ladder of S-SMKE on encoders so small that it runs in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data import load_records
from vlkd_training.paper.report import write_markdown
from vlkd_training.paper.results import Results
from vlkd_training.paper.runner import Runner
from vlkd_training.paper.smke import SmkeLadder
from vlkd_training.paper.smke_jobs import PHOTOS, SCENES, VARIANTS, SmkeDomain, comparisons, jobs
from vlkd_training.paper.smke_runs import first_captions
from vlkd_training.rows import CaptionRows


@pytest.fixture
def domain(smke_recipe: dict[str, Any], tmp_path: Path) -> SmkeDomain:
    """Scenes, with recipes of three steps."""
    smke_recipe["student"] |= {"views": 1, "model": {"num_attention_heads": 2, "intermediate_size": 24}}
    smke_recipe["phases"][0]["train"]["freeze"] = ["image_encoder.backbone", "text_encoder"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(smke_recipe))
    return dataclasses.replace(SCENES, recipe=str(tmp_path / "recipe.yaml"), test=("test", 10), captions=2)


def test_jobs_come_after_what_they_start_from_and_one_seed_first() -> None:
    found = jobs((SCENES, PHOTOS), [0, 1])
    done: set[str] = set()
    for job in found:
        assert set(job.after) <= done, job.id
        done.add(job.id)
    assert len(done) == len(found) == 2 * (2 + 2 * len(VARIANTS))
    assert [job.seed for job in found] == sorted(job.seed for job in found)


@pytest.mark.parametrize("table", comparisons((SCENES, PHOTOS)), ids=lambda table: table.name)
def test_every_row_is_a_run_and_those_that_train_take_the_same_steps(table: Any) -> None:
    """Equal budgets; the row that is not trained says so."""
    runs = {job.name: job for job in jobs((SCENES, PHOTOS), [0])}
    steps = {runs[row.run].steps for row in table.rows if not row.run.endswith("/untrained")}
    assert len(steps) == 1 and steps.pop() > 0
    assert runs["scenes/untrained"].steps == 0


def test_the_theses_numbers() -> None:
    """Averages over R@1, 5, 10 of both directions, recomputed from its Table 16 and 25 rows of Flickr30k."""
    rows = {row.run: row.paper for table in comparisons((PHOTOS,)) for row in table.rows if row.paper}
    smke = [64.5, 88.4, 93.0, 51.78, 78.54, 86.46]
    ctl_bank = [70.9, 92.1, 96.0, 52.72, 80.2, 87.46]
    ddp = [56.1, 83.5, 90.7, 41.80, 71.36, 81.14]
    shared = [58.8, 85.6, 92.4, 43.92, 74.06, 82.8]
    assert rows["photos/cls"]["avg_r"] == pytest.approx(sum(smke) / 6, abs=0.02)
    assert rows["photos/contrastive-bank"]["avg_r"] == pytest.approx(sum(ctl_bank) / 6, abs=0.02)
    assert rows["photos/shre-mlp"]["avg_r"] == pytest.approx(sum(ddp) / 6, abs=0.02)
    assert rows["photos/shre-transformer"]["avg_r"] == pytest.approx(sum(shared) / 6, abs=0.02)


def test_a_run_is_scored_on_pictures_that_it_never_saw(domain: SmkeDomain, tmp_path: Path) -> None:
    """Features, an untrained student, a trained one and one with matching; then the report of them."""
    ladder = SmkeLadder(tmp_path / "work", {"scenes": "scenes:12"}, domains=[domain])
    wanted = ("features", "untrained", "type-before", "itm-hard")
    chosen = [job for job in ladder.jobs([0]) if job.name.rpartition("/")[2] in wanted]
    runner = Runner(ladder, tmp_path / "work", Console(quiet=True))
    assert runner.run(chosen) == 0
    assert runner.pending(chosen) == []
    results = Results.read(tmp_path / "work")
    scores = {name: seeds[0]["scores"] for name, seeds in results.runs.items()}
    assert 0 <= scores["scenes/untrained"]["avg_r"] <= 100
    assert scores["scenes/untrained"]["r@10"] == 100.0  # ten pictures
    assert 0 <= scores["scenes/itm-hard"]["itm"] <= 100 and "itm" not in scores["scenes/type-before"]
    assert set(results.runs["scenes/itm-hard"][0]["losses"]) == {"itc", "kd_image", "kd_text", "itm"}
    write_markdown(tmp_path / "report.md", ladder, results)
    assert "Token-type embeddings, scenes" in (tmp_path / "report.md").read_text()


def test_first_captions_of_each_picture() -> None:
    rows = CaptionRows(load_records("scenes:3", "train"))
    fewer = first_captions(rows, 2)
    assert fewer.images == [0, 0, 1, 1, 2, 2]
    assert fewer.texts[:2] == rows.texts[:2]


def test_what_the_ladder_cannot_use() -> None:
    with pytest.raises(InvalidInputError, match="no 'photo'.*Did you mean 'photos'"):
        SmkeLadder(Path("work"), {"photo": "x"})
    with pytest.raises(InvalidInputError, match="names its image teacher itself"):
        SmkeLadder(Path("work"), {"photos": "x"}, {"photos": "y"})
