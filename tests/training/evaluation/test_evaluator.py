from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_training.data.records import QuestionAnswer, Record, RecordDataset
from vlkd_training.evaluation import captioning
from vlkd_training.evaluation.evaluator import TASKS, Evaluator
from vlkd_training.evaluation.report import tables

from .fake_student import NAMES, ColorStudent, DualEncoder, picture


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """METEOR's start costs seconds and is tested elsewhere."""
    monkeypatch.setattr("vlkd_training.evaluation.tokenizer.has_java", lambda: False)
    monkeypatch.setattr("vlkd_training.evaluation.java_metrics.has_java", lambda: False)
    assert captioning.tokenize(["A b."]) == (["a b"], "plain Python tokenizer: no Java on the PATH")
    yield


def _record(name: str, **texts: object) -> Record:
    buffer = io.BytesIO()
    picture(name).save(buffer, format="PNG")
    return Record(name, image_bytes=buffer.getvalue(), **texts)  # type: ignore[arg-type]


def _records() -> RecordDataset:
    return RecordDataset(
        [
            _record(
                name,
                captions=(f"a picture full of bright {name}", f"everything is {name} here today"),
                qa=(
                    QuestionAnswer("what color is it?", (name,), "color"),
                    QuestionAnswer("is it green?", ("yes" if name == "green" else "no",), "yes/no"),
                ),
                label=name,
            )
            for name in NAMES
        ],
        "colors",
    )


def test_all_tasks_of_a_perfect_student() -> None:
    """Every number is known: all is found and named, `yes` is right once in three, the baseline says red and no."""
    train = [item for record in _records() for item in record.qa] + [QuestionAnswer("what color?", ("red",), "color")]
    report = Evaluator(student=ColorStudent(), train_questions=lambda: train).evaluate(_records(), list(TASKS))
    assert report["n_images"] == 3 and report["skipped"] == {}
    for way in ("text_to_image", "image_to_text"):
        assert report["retrieval"][way]["r@1"] == 1.0
        assert report["retrieval"][way]["chance_r@10"] == 1.0
    assert report["retrieval"]["n_captions"] == 6
    assert report["caption"]["cider"] > 4 > report["caption"]["cider_shuffled"]
    assert report["caption"]["bleu4"] == pytest.approx(1.0)
    assert set(report["caption"]["notes"]) == {"tokenizer", "meteor", "spice"}
    assert report["vqa"]["by_type"]["color"] == {"accuracy": 1.0, "baseline": pytest.approx(1 / 3), "n": 3}
    assert report["vqa"]["by_type"]["yes/no"] == {
        "accuracy": pytest.approx(1 / 3),
        "baseline": pytest.approx(2 / 3),
        "n": 3,
    }
    assert report["vqa"]["accuracy"] == pytest.approx(4 / 6)
    assert report["zero_shot"]["accuracy"] == 1.0 and report["zero_shot"]["chance"] == pytest.approx(1 / 3)
    assert report["zero_shot"]["templates"] == 80


def test_median_rank_and_templates_as_asked() -> None:
    """Beside the recall where it is asked for; few sentences where few are enough."""
    evaluator = Evaluator(student=ColorStudent(), median_rank=(1, 3), templates=("a {}.",))
    report = evaluator.evaluate(_records(), ["retrieval", "zero-shot"])
    assert report["zero_shot"]["templates"] == 1
    assert report["retrieval"]["average_median_rank"] == {
        "text_to_image": 1.0,
        "image_to_text": 1.0,
        "splits": 1,
        "size": 3,
        "repeats": 2,
        "chance": 2.0,
    }
    tables_of = [table.title for table in tables("test", report | {"n_images": 3})]
    assert any("1 splits of 3" in str(title) for title in tables_of)


def test_splits_that_cannot_be_filled_cost_no_embedding() -> None:
    student = ColorStudent()
    with pytest.raises(InvalidInputError, match="need 10 pictures with captions, and there are 3"):
        Evaluator(student=student, median_rank=(5, 2)).evaluate(_records(), ["retrieval"])
    assert student.images_embedded == 0


def test_examples_run_from_best_to_worst() -> None:
    """The worst answers are the ones worth reading."""
    examples = Evaluator(student=ColorStudent()).evaluate(_records(), ["vqa"])["vqa"]["examples"]
    scores = [example["accuracy"] for example in examples]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1 and scores[-1] == 0
    assert examples[-1] == {
        "id": "blue",
        "question": "is it green?",
        "answer": "yes",
        "answers": ["no"],
        "accuracy": 0.0,
    }


def test_work_is_done_once_and_in_batches() -> None:
    """Two tasks share the picture vectors, equal texts are embedded once, no list is longer than a batch."""
    records = _records()
    twice = RecordDataset([*records, _record("red", captions=records[0].captions, label="red")])
    student = ColorStudent()
    Evaluator(student=student, batch_size=2, num_beams=3).evaluate(twice, ["retrieval", "caption", "zero-shot"])
    assert student.images_embedded == 4
    captions = [text for text in student.texts_embedded if "full of" in text or "everything" in text]
    assert len(captions) == len(set(captions)) == 6
    assert student.beams == {3}


def test_progress_reaches_the_total() -> None:
    """Each stage ends full."""
    heard: dict[str, tuple[int, int]] = {}
    Evaluator(
        student=ColorStudent(), batch_size=2, progress=lambda stage, done, total: heard.update({stage: (done, total)})
    ).evaluate(_records(), list(TASKS))
    assert heard == {
        "picture vectors": (3, 3),
        "text vectors": (6, 6),
        "captions": (3, 3),
        "classes": (3, 3),
        "answers": (3, 3),
    }


def test_task_without_data_is_skipped_with_its_reason() -> None:
    """One set rarely has everything; but when nothing can be measured, that is an error."""
    photos = RecordDataset([_record(name, captions=(name,)) for name in NAMES], "photos")
    report = Evaluator(student=ColorStudent()).evaluate(photos, ["retrieval", "vqa"])
    assert report["skipped"] == {"vqa": "photos has no questions"} and "vqa" not in report
    with pytest.raises(DataError, match="Nothing to measure: photos has no questions; photos has no class labels"):
        Evaluator(student=ColorStudent()).evaluate(photos, ["vqa", "zero-shot"])


def test_without_training_questions_the_baseline_is_none() -> None:
    """A made-up baseline would be worse than none."""
    report = Evaluator(student=ColorStudent(), train_questions=list).evaluate(_records(), ["vqa"])
    assert report["vqa"]["baseline"] is None
    assert "no training questions" in report["vqa"]["notes"]["baseline"]


def test_dual_encoder_searches_and_does_not_write() -> None:
    """A teacher is measured on retrieval; asked for captions it says why not."""
    report = Evaluator(student=DualEncoder()).evaluate(_records(), ["retrieval"])
    assert report["retrieval"]["text_to_image"]["r@1"] == 1.0
    with pytest.raises(InvalidInputError, match="cannot write"):
        Evaluator(student=DualEncoder()).evaluate(_records(), ["caption"])


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown tasks, one picture, labels that are no class, a model that loses an output."""
    evaluator = Evaluator(student=ColorStudent(), classes=["red", "green"])
    with pytest.raises(DataError, match="Unknown task speak; tasks are retrieval, caption, vqa, zero-shot"):
        evaluator.evaluate(_records(), ["speak"])
    with pytest.raises(DataError, match=r"Unknown task \(none given\)"):
        evaluator.evaluate(_records(), [])
    with pytest.raises(DataError, match="single has 1 with captions"):
        evaluator.evaluate(RecordDataset(_records()[:1], "single"), ["caption"])
    with pytest.raises(DataError, match="1 labels are no known class, the first is 'blue'"):
        evaluator.evaluate(_records(), ["zero-shot"])
    monkeypatch.setattr(ColorStudent, "caption", lambda self, images, **options: ["a"])
    with pytest.raises(InvalidInputError, match="1 captions for 3 inputs"):
        evaluator.evaluate(_records(), ["caption"])
