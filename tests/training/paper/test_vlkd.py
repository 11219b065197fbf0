"""The VLKD ladder on a student of a few thousand weights: every kind of run, and a broken one."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from vlkd_hub.errors import InvalidInputError, RecipeError
from vlkd_training.data.records import QuestionAnswer
from vlkd_training.paper.jobs import Job
from vlkd_training.paper.material import picture_source
from vlkd_training.paper.runner import Runner, choose
from vlkd_training.paper.vlkd import VlkdLadder
from vlkd_training.paper.vlkd_jobs import Domain, comparisons
from vlkd_training.paper.vlkd_runs import whole_batches

RUNS = ["scenes/full", "scenes/without-ttdm", "scenes/without-icti", "scenes/thirtieth-of-data"]


def ladder_of(work: Path, domain: Domain, teacher: Path) -> VlkdLadder:
    return VlkdLadder(work, {"scenes": "scenes:40"}, {"scenes": str(teacher)}, [domain])


def read(work: Path, run: str) -> dict[str, Any]:
    return json.loads((work / "runs" / f"{run.replace('/', '--')}@0.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_domain: Domain, tiny_teacher: Path) -> Path:
    """A work folder in which some runs of the ladder are done."""
    work = tmp_path_factory.mktemp("ladder")
    ladder = ladder_of(work, tiny_domain, tiny_teacher)
    jobs = choose(ladder.jobs([0]), [*RUNS, "scenes/captions-1%"])
    assert Runner(ladder, work, Console(file=io.StringIO())).run(jobs) == 0
    return work


def test_each_run_leaves_out_what_its_name_says(finished: Path) -> None:
    parts = {name: set(read(finished, name)["losses"]) - {"tuned lm_vqa"} for name in RUNS}
    assert parts["scenes/full"] == {"ttdm", "itcl", "icti"}
    assert parts["scenes/without-ttdm"] == {"itcl", "icti"}
    assert parts["scenes/without-icti"] == {"ttdm", "itcl"}
    assert read(finished, "scenes/full")["pictures"] == 40
    assert read(finished, "scenes/thirtieth-of-data")["pictures"] == 1
    assert "init_cosine" in read(finished, "scenes/full")
    assert "init_cosine" not in read(finished, "scenes/without-ttdm")


def test_the_cls_variant_sees_one_token_of_each_picture() -> None:
    tokens = np.arange(24.0).reshape(2, 4, 3)
    assert picture_source(tokens, "all_tokens")([1])["image_tokens"].shape == (1, 4, 3)
    assert picture_source(tokens, "cls")([1, 0])["image_tokens"].tolist() == [[[12.0, 13.0, 14.0]], [[0.0, 1.0, 2.0]]]


@pytest.mark.parametrize(("batch", "rows"), [(2, 3), (3, 3), (4, 6), (64, 66)])
def test_a_part_smaller_than_a_batch_is_visited_more_often(batch: int, rows: int) -> None:
    """1 % of DAQUAR are 61 questions and a step takes 64: no step would be whole."""
    asked = [QuestionAnswer(f"what is {n}?", (str(n),), "what") for n in range(3)]
    records = [SimpleNamespace(captions=(), qa=asked[:2]), SimpleNamespace(captions=(), qa=asked[2:])]
    processor = SimpleNamespace(build_prompt=lambda task, question=None: f"{task}: {question}")
    found = whole_batches(records, processor, {"vqa": 1.0}, 0, batch)
    assert len(found) == rows and Counter(found.targets) == {"0": rows // 3, "1": rows // 3, "2": rows // 3}
    assert set(zip(found.targets, found.images, strict=True)) == {("0", 0), ("1", 0), ("2", 1)}


def test_equal_seeds_see_equal_batches(finished: Path) -> None:
    """One seed starts from the same weights: the first loss of a run does not change with what comes later."""
    full, without = (read(finished, name)["losses"]["itcl"][0] for name in ("scenes/full", "scenes/without-icti"))
    assert full[0] == without[0] == 1 and full[1] == pytest.approx(without[1], rel=1e-5)


def test_a_distilled_student_is_scored_in_every_way(finished: Path) -> None:
    scores = read(finished, "scenes/full")["scores"]
    asked = (
        "r@1 r@10 cider cider_shuffled cider_m5 cider_m7 cider_m8 vqa vqa_tuned vqa_guess unseen_vqa unseen_vqa_tuned"
    )
    assert set(asked.split()) <= set(scores)
    assert all(0.0 <= scores[name] <= 100.0 for name in ("r@1", "r@10", "vqa", "vqa_tuned", "vqa_guess"))
    assert {"cider", "unseen_cider"} <= set(read(finished, "scenes/captions-1%")["scores"])
    assert read(finished, "scenes/captions-1%")["pictures"] == 1
    assert "r@1" in read(finished, "scenes/features")["scores"]


def test_every_number_of_a_table_is_measured(finished: Path, tiny_domain: Domain) -> None:
    """A column or row that reads a key which no run writes would stay empty for ever."""
    for table in comparisons([tiny_domain]):
        for row in table.rows:
            name = row.run if (finished / "runs" / f"{row.run.replace('/', '--')}@0.json").is_file() else None
            for measure in table.measures if name else ():
                assert row.keys.get(measure.key, measure.key) in read(finished, row.run)["scores"], (
                    table.name,
                    row.title,
                )


class _Stop(Exception):
    pass


def test_a_run_that_breaks_off_ends_as_the_unbroken_one(
    finished: Path, tmp_path: Path, tiny_domain: Domain, tiny_teacher: Path
) -> None:
    """Stopped at its fourth step, the second try goes on from the checkpoint and gives the same file."""
    for name in ("features", "weights"):
        (tmp_path / name).symlink_to(finished / name)
    ladder = ladder_of(tmp_path, tiny_domain, tiny_teacher)
    job = next(job for job in ladder.jobs([0]) if job.name == "scenes/without-ttdm")
    folder, told = tmp_path / "unfinished", []

    def stop(part: float) -> None:
        told.append(part)
        if len(told) == 4:
            raise _Stop

    with pytest.raises(_Stop):
        ladder.run(job, folder, stop)
    told.clear()
    found = ladder.run(job, folder, told.append)
    expected = read(finished, "scenes/without-ttdm")
    assert told[0] == pytest.approx(0.6 * 0.8 * 4 / 6), "it began anew"
    assert found["losses"] == expected["losses"]
    assert found["scores"] == expected["scores"]


def test_what_a_run_depends_on_changes_its_facts(finished: Path, tiny_domain: Domain, tiny_teacher: Path) -> None:
    ladder = ladder_of(finished, tiny_domain, tiny_teacher)
    job = ladder.jobs([0])[2]
    other = VlkdLadder(finished, {"scenes": "scenes:41"}, {"scenes": str(tiny_teacher)}, [tiny_domain])
    assert ladder.facts(job) == ladder_of(finished, tiny_domain, tiny_teacher).facts(job)
    changed = {name for name, value in other.facts(job).items() if ladder.facts(job)[name] != value}
    assert changed == {"data set scenes"}


def test_runs_of_another_start_of_the_text_projection_are_refused(
    finished: Path, tiny_domain: Domain, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was distilled before the start changed must not stand in a table beside what was distilled after."""
    jobs = {job.name: job for job in ladder_of(finished, tiny_domain, tiny_teacher).jobs([0])}
    monkeypatch.setattr("vlkd_training.paper.vlkd.TEXT_START", "another")
    ladder = ladder_of(finished, tiny_domain, tiny_teacher)
    with pytest.raises(RecipeError, match="made with another start of W_e"):
        Runner(ladder, finished, Console(file=io.StringIO())).run([jobs["scenes/full"]])
    assert ladder.facts(jobs["scenes/without-ttdm"])["start of W_e"] == "random"


def test_a_wrong_name_says_which_are_right(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"--data: there is no 'scene'. Did you mean 'scenes'"):
        VlkdLadder(tmp_path, {"scene": "scenes:40"})
    with pytest.raises(InvalidInputError, match=r"--teacher: there is no 'photo'. Did you mean 'photos'"):
        VlkdLadder(tmp_path, {"scenes": "scenes:40"}, {"photo": "x"})
    with pytest.raises(InvalidInputError, match=r"give --data questions=... too"):
        VlkdLadder(tmp_path, {"photos": "somewhere"})
    with pytest.raises(InvalidInputError, match=r"No captions to distil on"):
        VlkdLadder(tmp_path, {"questions": "somewhere"})


def test_a_start_that_is_gone_is_named(tmp_path: Path, tiny_domain: Domain, tiny_teacher: Path) -> None:
    ladder = ladder_of(tmp_path, tiny_domain, tiny_teacher)
    job: Job = next(job for job in ladder.jobs([0]) if job.name == "scenes/full")
    with pytest.raises(InvalidInputError, match=r"delete the JSON file of scenes/language@0"):
        ladder.run(job, tmp_path / "unfinished", lambda part: None)
