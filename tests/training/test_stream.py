"""Streams: every row is read by one reader, in an order that a resumed run repeats, and training goes on exactly."""

from __future__ import annotations

import io
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vlkd_hub.errors import DataError, RecipeError, TrainingError
from vlkd_hub.inference import load_processor
from vlkd_training.data.records import Record
from vlkd_training.data.webdataset import write_shards
from vlkd_training.distill_stream import run_stream_distill
from vlkd_training.stream import CaptionStream, StreamCollator, StreamRow

from .toy import make_trainer, run_state

RECORDS = 24


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four shards of six records, a caption each."""
    records = []
    for number in range(RECORDS):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number * 10, 0, 0)).save(buffer, format="PNG")
        words = ("a red circle", "the blue square")[number % 2]
        records.append(Record(id=f"r{number}", captions=(f"{words} {number}",), image_bytes=buffer.getvalue()))
    folder = tmp_path_factory.mktemp("shards")
    write_shards(records, folder, "train", records_per_shard=6)
    return f"webdataset:{folder}/{{split}}-*.tar"


def ids(rows: list[StreamRow]) -> list[str]:
    return [row.record.id for row in rows]


@pytest.mark.parametrize("readers", [1, 2, 6])
def test_readers_share_each_pass_out(shards: str, readers: int) -> None:
    """Together the readers see every record once before any comes again; two more readers than shards split some."""
    stream = CaptionStream(shards, buffer=1)
    passes = [
        [[record.id for record, _ in stream._in_order(reader, readers, epoch)] for reader in range(readers)]
        for epoch in range(2)
    ]
    for shares in passes:
        assert sorted(name for share in shares for name in share) == sorted(f"r{number}" for number in range(RECORDS))
        assert all(shares)
    assert passes[0] != passes[1], "another pass, another order of shards"


def test_the_order_follows_the_seed(shards: str) -> None:
    one, again, other = (ids(list(islice(CaptionStream(shards, seed=s, buffer=8), 20))) for s in (0, 0, 1))
    assert one == again != other
    assert one != sorted(one)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_with_the_same_batches(shards: str, workers: int) -> None:
    """After 17 batches of 24 records: in the second pass, and where two workers take turns, the second one's."""

    def batches(start: int, done: dict[int, tuple[int, int]], number: int) -> list[list[StreamRow]]:
        stream = CaptionStream(shards, buffer=4)
        stream.resume_at(start, done)
        loader = DataLoader(stream, batch_size=2, num_workers=workers, collate_fn=list)
        return list(islice(loader, number))

    whole = batches(0, {}, 22)
    done = {row.place[1]: (row.place[2], row.place[3] + 1) for batch in whole[:17] for row in batch}
    assert max(epoch for epoch, _ in done.values()) >= 1
    rest = batches(17, done, 5)
    assert [ids(batch) for batch in rest] == [ids(batch) for batch in whole[17:]]
    assert [[row.place for row in batch] for batch in rest] == [[row.place for row in batch] for batch in whole[17:]]


def test_other_formats_are_one_piece(tmp_path: Path) -> None:
    """Made-up scenes stream too: readers take every n-th record."""
    stream = CaptionStream("scenes:6", buffer=1)
    assert len(stream.pieces) == 1
    shares = [{record.id for record, _ in stream._in_order(reader, 2, 0)} for reader in range(2)]
    assert len(shares[0]) == len(shares[1]) == 3
    assert not shares[0] & shares[1]


def test_a_stream_without_captions_is_no_endless_wait(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="PNG")
    write_shards([Record(id="r", image_bytes=buffer.getvalue())], tmp_path, "train")
    with pytest.raises(DataError, match="found no caption in a pass"):
        next(iter(CaptionStream(f"webdataset:{tmp_path}/train-*.tar")))


def make_collator(student: Path) -> StreamCollator:
    processor = load_processor(student)
    return StreamCollator(processor.tokenizer, processor.image_processor, processor.tokenizer, mask_ratio=0.3)


def test_a_broken_picture_does_not_end_a_stream(tiny_student: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another row of the batch stands in for it, caption and all; the log names the record."""
    collate = make_collator(tiny_student)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format="PNG")
    contents = [buffer.getvalue(), b"no picture", buffer.getvalue()]
    rows = [
        StreamRow(
            Record(id=f"r{at}", captions=("a red circle",), image_bytes=content), f"a red circle {at}", (0, 0, 0, at)
        )
        for at, content in enumerate(contents)
    ]
    batch = collate(rows)
    assert len(batch["pixel_values"]) == len(batch["clean_input_ids"]) == 3
    assert batch["image_ids"].tolist() == [zlib.crc32(name) for name in (b"r0", b"r2", b"r2")]
    assert torch.equal(batch["clean_input_ids"][1], batch["clean_input_ids"][2])
    assert "record 'r1' cannot be read" in caplog.text and collate.broken == 1
    with pytest.raises(DataError, match="Not one of the 1 pictures of a batch can be read, record 'r1'"):
        collate(rows[1:2])
    with pytest.raises(DataError, match=r"21 of \d+ pictures of the stream cannot be read. The last: .*'r1'"):
        for _ in range(20):
            collate(rows[:2])


def test_a_batch_depends_on_its_rows_alone(shards: str, tiny_student: Path) -> None:
    """Masks are drawn from the rows' own seeds; the random numbers of training are left where they were."""
    collate = make_collator(tiny_student)
    rows = list(islice(CaptionStream(shards, buffer=4), 4))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batch = collate(rows)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = collate(rows)
    assert batch.keys() == again.keys() >= {"pixel_values", "labels", "teacher_input_ids", "clean_input_ids"}
    assert all(torch.equal(value, again[name]) for name, value in batch.items())
    assert (batch["input_ids"] == 4).any(dim=1).all(), "every text has a mask"
    assert len(batch["image_ids"].unique()) == len({row.record.id for row in rows})
    drawn = set()
    for seed in range(5):
        batch = collate([row._replace(place=(seed, 0, 0, number)) for number, row in enumerate(rows)])
        drawn.add(str(batch["input_ids"].tolist()))
    assert len(drawn) > 1, "other rows, other masks"


class LiveTeacher(torch.nn.Module):
    """Stands in for a teacher: a fixed vector for each text's first word."""

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        table = torch.nn.functional.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
        return {"teacher_text_embeds": table[batch["teacher_input_ids"][:, 1]]}


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_a_stream_resumes_to_the_bit(shards: str, tiny_student: Path, tmp_path: Path, workers: int) -> None:
    """Dropout on; the run breaks inside a pass, and with two workers inside their turn."""

    def trainer() -> Any:
        made = make_trainer(
            tiny_student,
            tmp_path,
            rows=CaptionStream(shards, buffer=4),
            collator=make_collator(tiny_student),
            max_steps=6,
            save_strategy="steps",
            save_steps=3,
            dataloader_num_workers=workers,
        )
        made.teacher = LiveTeacher()
        return made

    unbroken = trainer()
    unbroken.train()
    resumed = trainer()
    torch.rand(7)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected, found = run_state(unbroken), run_state(resumed)
    different = [
        name
        for name, value in expected.items()
        if not (torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name])
    ]
    assert different == []
    assert len(found["losses"]) == 6


def test_other_workers_would_be_another_order(shards: str, tiny_student: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    for workers in (0, 1):
        trainer = make_trainer(
            tiny_student,
            tmp_path,
            rows=CaptionStream(shards),
            collator=make_collator(tiny_student),
            dataloader_num_workers=workers,
            **options,
        )
        trainer.teacher = LiveTeacher()
        if workers == 0:
            trainer.train()
        else:
            with pytest.raises(TrainingError, match="was read by 0 workers and dataloader_num_workers is 1 now"):
                trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_stream_needs_an_end(tmp_path: Path) -> None:
    recipe = tmp_path / "endless.yaml"
    recipe.write_text("kind: distill\nsource: ours\nphases:\n  - method: vlkd\n    train: {num_train_epochs: 1}\n")
    with pytest.raises(RecipeError, match="a stream has no end, so the recipe must say max_steps"):
        run_stream_distill(recipe, "scenes:4", "nowhere", tmp_path / "out")
