"""A Trainer whose interrupted run goes on exactly where it stopped."""

from __future__ import annotations

import functools
import shutil
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import rotate_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from vlkd_hub.errors import TrainingError

from .checkpoints import STAGING, commit
from .methods import Method
from .stream import CaptionStream

__all__ = ["ResumableTrainer"]


class _Recorded:
    """A collator that remembers the random numbers' state before each of its last batches.

    The data loader fetches a batch ahead of the one in training. What that batch draws (masks, views) was drawn
    before the checkpoint, so a resumed run must draw it from the state of that moment. In a worker process the rows
    themselves are the seed.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate
        self.states: deque[torch.Tensor] = deque(maxlen=16)
        self.replay: list[torch.Tensor] = []
        self.calls = 0

    def __call__(self, rows: Sequence[Any]) -> Any:
        if get_worker_info() is not None:
            if all(isinstance(row, int) for row in rows):  # a worker's own numbers depend on when it started
                torch.manual_seed(zlib.crc32(repr(rows).encode()))
            return self.collate(rows)
        if self.replay:
            torch.set_rng_state(self.replay.pop(0))
        self.states.append(torch.get_rng_state())
        self.calls += 1
        return self.collate(rows)


class ResumableTrainer(Trainer):
    """Adds to ``transformers.Trainer`` what an exact resume needs, and saves atomically.

    Beside weights, optimizer, schedule and random numbers, a checkpoint holds the method's state, the random numbers
    of batches that were fetched ahead, and the loss sums since the last log, so that even the logged losses of a
    resumed run are those of an unbroken one. It is written in a folder of its own and renamed when it is whole.
    """

    method: Method

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorded = _Recorded(self.data_collator)
        self._batches_trained = 0
        self._batches_before = 0
        self._stream_done: dict[int, tuple[int, int]] = {}
        self._ahead = 0
        self._staging: Path | None = None
        self._pending_rng: str | None = None
        self._parts: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        if isinstance(self.train_dataset, IterableDataset):
            self.args.ignore_data_skip = True  # a stream finds its own place

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self._note_batch(inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def _note_batch(self, inputs: dict[str, Any]) -> None:
        """Count a batch; of a stream's, remember how far its reader came."""
        self._batches_trained += 1
        place = inputs.pop("stream_place", None)
        if place is not None:
            reader, epoch, number = place.tolist()
            self._stream_done[reader] = (epoch, number + 1)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Write a checkpoint aside and rename it; older ones are deleted only after that."""
        output = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging = output / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging, self.args.save_total_limit = None, limit
        self._save_position(staging / name)
        if self.state.best_model_checkpoint == str(staging / name):
            self.state.best_model_checkpoint = str(output / name)
            if self.args.should_save:
                self.state.save_to_json(str(staging / name / "trainer_state.json"))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            commit(staging / name, output / name)
            shutil.rmtree(staging, ignore_errors=True)
            rotate_checkpoints(str(output), limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()

    def _save_position(self, folder: Path) -> None:
        """Write this process's method state, states of batches fetched ahead, and loss sums."""
        ahead = self._recorded.calls - self._batches_trained
        position = {
            "rng": torch.get_rng_state(),
            "loss_sum": torch.as_tensor(self._tr_loss).detach().cpu().double().reshape(()),
            "last_logged": torch.tensor(self._globalstep_last_logged),
            "batches": torch.tensor(self._batches_before + self._batches_trained),
        }
        if self._stream_done:
            position["stream"] = torch.tensor([[reader, *done] for reader, done in self._stream_done.items()])
            position["workers"] = torch.tensor(self.args.dataloader_num_workers)
        if ahead > 0:
            position["ahead"] = torch.stack(list(self._recorded.states)[-ahead:])
        position |= {f"part/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self._parts.items()}
        position |= {f"count/{name}": torch.tensor(value) for name, value in self._counts.items()}
        save_file(position, folder / self._own("position"))
        state = self.method.checkpoint_state()
        if state:
            save_file({name: value.contiguous() for name, value in state.items()}, folder / self._own("method_state"))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save weights under the names that they have in the model.

        transformers gives those of some backbones (a ViT's, a BEiT's) the names of older versions when it saves, and
        its own resume, which does not translate them back, would leave such a backbone as it is.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not isinstance(model, PreTrainedModel):
            super()._save(output_dir, state_dict)
            return
        model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)  # type: ignore[method-assign]
        try:
            super()._save(output_dir, state_dict)
        finally:
            del model.save_pretrained

    def _check_weights(self, folder: Path) -> None:
        """Refuse a checkpoint that lacks weights of the model, which would silently keep the values that they have."""
        file = folder / SAFE_WEIGHTS_NAME
        if not file.exists():  # sharded, or of FSDP
            return
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys())
        own = dict(self.accelerator.unwrap_model(self.model).named_parameters(remove_duplicate=False))
        there = {id(value) for name, value in own.items() if name in names}  # a shared table is saved once
        missing = sorted(name for name, value in own.items() if id(value) not in there)
        if missing:
            raise TrainingError(
                f"{file} lacks {len(missing)} of the model's weights (the first: {missing[0]}); they would not be "
                "those of the interrupted run. It was written by another version: start over without --resume."
            )

    def _check_processes(self, folder: Path) -> None:
        """Refuse a checkpoint of another number of processes: who reads which rows depends on it."""
        before = len(list(folder.glob("position_*.safetensors")))
        if before and before != self.args.world_size:
            raise TrainingError(
                f"{folder} was saved by {before} processes and {self.args.world_size} go on with it; rows and random "
                f"numbers would be others. Resume with {before}, or start over without --resume."
            )

    def _own(self, name: str) -> str:
        """File name of what each process keeps for itself."""
        return f"{name}_{self.args.process_index}.safetensors"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        folder = Path(resume_from_checkpoint)
        self._check_weights(folder)
        self._check_processes(folder)
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        file = folder / self._own("method_state")
        if self.method.checkpoint_state() or file.exists():  # a momentum encoder has no state before its first step
            if not file.exists():
                raise TrainingError(
                    f"{folder} holds no state of the method {type(self.method).__name__} for process "
                    f"{self.args.process_index}: it was saved by another method or another number of processes. "
                    "Resume with the same ones, or start over without --resume."
                )
            self.method.load_checkpoint_state(load_file(file, device=str(self.args.device)))
        position = folder / self._own("position")
        if position.exists():
            states = load_file(position)
            self._batches_before = int(states["batches"])
            if isinstance(self.train_dataset, CaptionStream):
                self._resume_stream(self.train_dataset, states)
                return
            ahead = states.get("ahead")
            self._ahead = 0 if ahead is None else len(ahead)
            if ahead is not None:
                self._recorded.replay = [*ahead, states["rng"]]

    def _resume_stream(self, stream: CaptionStream, states: dict[str, torch.Tensor]) -> None:
        workers, before = self.args.dataloader_num_workers, int(states["workers"])
        if workers != before:
            raise TrainingError(
                f"The stream was read by {before} workers and dataloader_num_workers is {workers} now; the order of "
                f"rows depends on it. Resume with {before}, or start over without --resume."
            )
        self._stream_done = {reader: (epoch, number) for reader, epoch, number in states["stream"].tolist()}
        stream.resume_at(self._batches_before, dict(self._stream_done))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called once the first batches of a resumed run are there, or before them at the start of an epoch."""
        collated = self._recorded.calls
        self._recorded.replay.clear()  # an epoch that ends here fetches no batch ahead
        if collated == 0 and isinstance(self.train_dataset, IterableDataset):
            self._pending_rng = checkpoint
        state = torch.get_rng_state()
        super()._load_rng_state(checkpoint)
        if collated > self._ahead:  # a batch was drawn after the checkpoint's moment, as it was in the unbroken run
            torch.set_rng_state(state)
        if checkpoint is not None:
            self._load_sums(Path(checkpoint) / self._own("position"))

    def _load_sums(self, position: Path) -> None:
        if not position.exists():
            return
        values = load_file(position)
        self._tr_loss = values["loss_sum"].to(self._tr_loss)
        self._globalstep_last_logged = int(values["last_logged"])
        for name, value in values.items():
            kind, _, part = name.partition("/")
            if kind == "part":
                self._parts[part] = float(value)
            if kind == "count":
                self._counts[part] = int(value)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if isinstance(self.train_dataset, CaptionStream):  # a stream's epoch is the run; the Trainer counts from here
            self.state.epoch = self.state.global_step / self.state.max_steps
        super().log(logs, *args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches = super().get_batch_samples(*args, **kwargs)
        if self._pending_rng is not None:  # starting a stream's loader drew a number; the step must not see that
            super()._load_rng_state(self._pending_rng)
            self._pending_rng = None
        return batches

    def get_train_dataloader(self) -> Any:
        """The Trainer's own, with the collator recorded; a stream shares its rows out itself."""
        if isinstance(self.train_dataset, CaptionStream):
            return self._stream_loader(self.train_dataset)
        plain, self.data_collator = self.data_collator, self._recorded
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def _stream_loader(self, stream: CaptionStream) -> DataLoader:
        size, workers = self.args.train_batch_size, self.args.dataloader_num_workers
        stream.place(self.args.process_index, self.args.world_size)
        return DataLoader(
            stream,
            batch_size=size,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
        )
