"""Times and memory of training: cached teacher against a live one, the trainer against a plain loop, chunks."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from transformers import TrainerCallback, get_scheduler

from .build import build_student, load_teacher
from .data import load_records
from .data.collate import CaptionCollator
from .distill import picture_source, teacher_text_vectors
from .methods import VLKDMethod
from .phases import bf16_is_fast
from .recipe import load_recipe
from .rows import CaptionRows
from .stream import StreamCollator, StreamRow
from .teachers import TextTeacher
from .trainer import DistillationArguments, DistillationTrainer, attention_for

__all__ = ["TrainingBench"]

_MASKING: dict[str, Any] = {"mask_ratio": 0.15, "poisson_lambda": 3.0}


@contextmanager
def _peak(found: list[float]) -> Iterator[None]:
    """Append the largest resident size, in MiB, that this process had inside the block."""
    done = threading.Event()
    page = os.sysconf("SC_PAGE_SIZE")
    largest = 0

    def watch() -> None:
        nonlocal largest
        while True:
            largest = max(largest, int(Path("/proc/self/statm").read_text().split()[1]) * page)
            if done.wait(0.02):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        found.append(largest / 2**20)


@dataclass
class _Times:
    """Seconds of each timed step: by the clock, and of processor time, which other programs do not stretch."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note(self) -> None:
        """A step ended."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def medians(self) -> tuple[float, float]:
        """Of the steps after the first two."""
        return tuple(  # type: ignore[return-value]
            statistics.median(after - before for before, after in zip(ends[1:], ends[2:], strict=False))
            for ends in (self.wall, self.cpu)
        )


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times = _Times()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.note()


@dataclass
class TrainingBench:
    """One student, its teacher and some pictures, trained for a few steps in several ways.

    Args:
        data: any data set.
        teacher_path: aligned teacher or CLIP.
        recipe: whose student is built.
        split: of the data.
        limit: pictures.
        batch_size: rows a step.
        steps: timed steps of each block, after two that are not timed.
    """

    data: str
    teacher_path: str
    recipe: str = "vlkd-scenes"
    split: str = "train"
    limit: int = 512
    batch_size: int = 64
    steps: int = 8
    peaks: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.teacher, self.teacher_processor = load_teacher(self.teacher_path)
        self.records = load_records(self.data, self.split, limit=self.limit)
        self.rows = CaptionRows(self.records)
        self.folder = TemporaryDirectory(prefix="bench-train-")
        spec = load_recipe(self.recipe, "distill").student
        torch.manual_seed(0)
        self.student, self.processor = build_student(spec, self.teacher, self.teacher_processor, {})
        self.begin = {name: value.clone() for name, value in self.student.state_dict().items()}
        start = time.perf_counter()
        root = Path(self.folder.name) / "cache"
        vectors = teacher_text_vectors(self.teacher, self.teacher_processor, self.rows.texts, root)
        self.pictures = picture_source(self.student, self.processor, self.records, root, views=1, dtype="float16")
        self.build_s = time.perf_counter() - start
        self.cached = CaptionCollator(self.rows, self.processor.tokenizer, self.pictures, vectors, **_MASKING)
        self.live = StreamCollator(
            self.processor.tokenizer, self.processor.image_processor, self.teacher_processor.tokenizer, **_MASKING
        )

    def run(self, rounds: int) -> dict[str, Any]:
        """Run every way in turns and compare the medians of their steps, in seconds."""
        ways: dict[str, Callable[[], _Times]] = {
            "uncached": lambda: self.trainer_steps(self._live_batch, TextTeacher(self.teacher)),
            "cached": lambda: self.trainer_steps(self.cached, None),
            "loop": self.loop_steps,
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                self._rewind()
                with _peak(self.peaks.setdefault(name, [])):
                    found[name].append(way().medians())
        report: dict[str, Any] = {
            "rows": len(self.rows),
            "pictures": len(self.records),
            "batch_size": self.batch_size,
            "threads": torch.get_num_threads(),
            "bf16": bf16_is_fast(),
            "build_cache_s": self.build_s,
            "peak_mib": {name: max(values) for name, values in self.peaks.items()},
        }
        for number, kind in enumerate(("wall", "cpu")):
            report[kind] = self._compare({name: [pair[number] for pair in pairs] for name, pairs in found.items()})
        return report

    def _compare(self, rounds: dict[str, list[float]]) -> dict[str, Any]:
        """Medians over the rounds, the epochs they make, and the two ratios with their spread."""
        step = {name: statistics.median(values) for name, values in rounds.items()}
        steps = len(self.rows) / self.batch_size
        by_round = [trainer / loop for trainer, loop in zip(rounds["cached"], rounds["loop"], strict=True)]
        return {
            "step_s": step,
            "step_s_by_round": rounds,
            "epoch_s": {name: step[name] * steps for name in ("uncached", "cached")},
            "uncached_to_cached": step["uncached"] / step["cached"],
            "trainer_to_loop": statistics.median(by_round),
            "trainer_to_loop_by_round": by_round,
        }

    def chunk_memory(self, batch_size: int, chunk: int) -> dict[str, float]:
        """One optimizer step on ``batch_size`` rows, ``chunk`` of them held for backward (0: all); peak and seconds."""
        self._rewind()
        rows = [number % len(self.rows) for number in range(batch_size)]
        batch, method = self.cached(rows), VLKDMethod(gamma=1000.0)
        batch["image_ids"] = torch.arange(batch_size)  # rows may repeat here; count every one as its own picture
        trainer = self._trainer(self.cached, None, 1, method=method, cached_contrastive_chunk=chunk)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        found: list[float] = []
        start = time.perf_counter()
        with _peak(found):
            trainer.training_step(self.student, batch)
        return {"batch": batch_size, "chunk": chunk, "peak_mib": found[0], "seconds": time.perf_counter() - start}

    def trainer_steps(self, collator: Any, teacher: TextTeacher | None) -> _Times:
        """Steps of the product's trainer, batches included."""
        clock = _Clock()
        self._trainer(collator, teacher, self.steps + 2, callbacks=[clock]).train()
        return clock.times

    def _trainer(
        self,
        collator: Any,
        teacher: TextTeacher | None,
        steps: int,
        method: VLKDMethod | None = None,
        callbacks: list[Any] | None = None,
        **changes: Any,
    ) -> DistillationTrainer:
        args = DistillationArguments(
            output_dir=f"{self.folder.name}/run",
            max_steps=steps,
            per_device_train_batch_size=self.batch_size,
            learning_rate=1e-4,
            max_grad_norm=5.0,
            logging_steps=20,
            save_strategy="no",
            bf16=bf16_is_fast(),
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            disable_tqdm=True,
            dataloader_drop_last=True,
            dataloader_pin_memory=False,
            **changes,
        )
        return DistillationTrainer(
            method=method or VLKDMethod(),
            args=args,
            model=self.student,
            train_dataset=self.rows,
            data_collator=collator,
            teacher=teacher,
            callbacks=callbacks,
        )

    def loop_steps(self) -> _Times:
        """Steps of the loop that one would write by hand, doing the same work."""
        method, model = VLKDMethod(), self.student
        trained = [value for value in model.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
        schedule = get_scheduler("linear", optimizer, 0, self.steps + 2)
        loader = DataLoader(
            self.rows, self.batch_size, sampler=RandomSampler(self.rows), collate_fn=self.cached, drop_last=True
        )
        autocast = torch.autocast("cpu", torch.bfloat16) if bf16_is_fast() else nullcontext()
        times, total = _Times(), 0.0
        model.train()
        for _, batch in zip(range(self.steps + 2), loader, strict=False):
            with torch.no_grad():
                model.vlkd.logit_scale.clamp_(max=4.605)
            with autocast, attention_for(model.device):
                outputs = model(**method.wanted(batch), **method.student_options)
            loss = torch.stack(list(method(outputs, batch).values())).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item()
            times.note()
        return times

    def _live_batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return self.live(
            [StreamRow(self.records[self.rows.images[row]], self.rows.texts[row], (0, 0, 0, row)) for row in rows]
        )

    def _rewind(self) -> None:
        self.student.load_state_dict(self.begin)
