"""Does each guarantee's test notice when its mechanism is broken? ``python tests/broken_on_purpose.py [WORD ...]``.

For every row of :data:`BREAKS` the packages and tests are copied aside, one line of the copy is broken, and the test
that guards it is run there; before that, all these tests must pass on a copy in which nothing is broken. A test that
still passes then guards nothing. With ``--write`` the table in docs/results/broken-on-purpose.md is made anew; with
words only the rows whose guarantee holds one of them are run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "broken-on-purpose.md"
COPIED = ("vlkd_hub", "training", "export", "serving", "demos", "tests", "docs", "pyproject.toml")
PATHS = (".", "training", "export", "serving", "demos")
NOTICED, PASSED, WRONG = "noticed", "**passes all the same**", "**did not run**"


@dataclass(frozen=True)
class Break:
    """One line and what guards it.

    Attributes:
        guarantee: in words.
        file: from the root of the repository.
        old: text of the line, found once.
        new: what it becomes.
        test: pytest's name of the guard, without ``tests/``.
    """

    guarantee: str
    file: str
    old: str
    new: str
    test: str


TRAINING = "training/vlkd_training/"
RESUME, UNBROKEN = TRAINING + "resume.py", "training/test_resume.py::test_a_resumed_run_is_the_unbroken_one"
BREAKS = (
    Break(
        "resume: batches fetched ahead are drawn again",
        RESUME,
        'self._recorded.replay = [*ahead, states["rng"]]',
        "pass",
        f"{UNBROKEN}[first-epoch]",
    ),
    Break(
        "resume: loss sums between two log lines",
        RESUME,
        'self._load_sums(Path(checkpoint) / self._own("position"))',
        "pass",
        f"{UNBROKEN}[mid-accumulation]",
    ),
    Break(
        "resume: the method's state is saved",
        RESUME,
        "        if state:\n            save_file({name",
        "        if False:\n            save_file({name",
        "training/test_resume.py::test_a_methods_buffers_travel_by_themselves",
    ),
    Break(
        "resume: loader processes draw by their rows",
        RESUME,
        "torch.manual_seed(zlib.crc32(repr(rows).encode()))",
        "pass",
        "training/test_resume.py::test_workers_draw_the_same_after_a_break",
    ),
    Break(
        "resume: another number of processes is refused",
        RESUME,
        "if before and before != self.args.world_size:",
        "if False:",
        "training/test_resume.py::test_another_number_of_processes_is_refused",
    ),
    Break(
        "resume: another recipe, data set or teacher is refused",
        TRAINING + "runs.py",
        "if changed:",
        "if False:",
        "training/test_runs.py::test_another_run_is_refused",
    ),
    Break(
        "save: older checkpoints go after the new one is there",
        RESUME,
        "limit, self.args.save_total_limit = self.args.save_total_limit, None",
        "limit = self.args.save_total_limit; shutil.rmtree(output / 'checkpoint-1', ignore_errors=True)",
        "training/test_resume.py::test_older_checkpoints_go_only_when_the_new_one_is_there",
    ),
    Break(
        "save: a checkpoint that was cut short is passed over",
        TRAINING + "checkpoints.py",
        "if file.stat().st_size != size:",
        "if False:",
        "training/test_checkpoints.py::test_what_is_not_whole_is_passed_over[shorter]",
    ),
    Break(
        "save: several processes save at the same step",
        TRAINING + "callbacks.py",
        "dist.broadcast(word, 0)",
        "pass",
        "training/test_callbacks.py::test_several_processes_save_at_the_first_ones_word",
    ),
    Break(
        "two processes as one: the gradient reaches the other's rows",
        TRAINING + "losses/gather.py",
        "        dist.all_reduce(total)\n        start",
        "        start",
        "training/test_processes.py::test_two_processes_train_as_one_with_the_doubled_batch[align-torchrun]",
    ),
    Break(
        "chunks: both passes draw the same dropout",
        TRAINING + "chunked.py",
        "_set_random_state(states[number])",
        "pass",
        "training/test_chunked.py::test_dropout_is_the_same_in_both_passes",
    ),
    Break(
        "chunks: the temperature's gradient",
        TRAINING + "chunked.py",
        "elif last:",
        "elif False:",
        "training/test_chunked.py::test_the_gradient_is_the_whole_batchs[vlkd-3]",
    ),
    Break(
        "chunks: frozen parts rest and the method completes the batch",
        TRAINING + "trainer.py",
        "inputs = self._completed(model, self._prepare_inputs(inputs))",
        "inputs = self._prepare_inputs(inputs)",
        "training/test_chunked.py::test_a_step_in_chunks_is_made_ready_like_a_whole_one",
    ),
    Break(
        "cache: a flipped byte is found",
        TRAINING + "cache.py",
        "stated.get(name) != value",
        "False",
        "training/test_cache.py::test_builds_again_what_is_damaged[flip_a_byte]",
    ),
    Break(
        "cache: two processes build once",
        TRAINING + "cache.py",
        'with _locked(root / f"{folder.name}.lock"):',
        "if True:",
        "training/test_cache.py::test_two_processes_build_once",
    ),
    Break(
        "cache: a value that fp16 cannot hold is refused",
        TRAINING + "checks.py",
        'if dtype in ("float16", "int8") else np.inf',
        "if False else np.inf",
        "training/test_checks.py::test_a_value_that_the_cache_cannot_hold",
    ),
    Break(
        "stream: a resumed run keeps the reader whose turn it is",
        TRAINING + "stream.py",
        "worker = (worker + self.batches_done) % workers",
        "pass",
        "training/test_stream.py::test_a_resumed_stream_goes_on_with_the_same_batches[2]",
    ),
    Break(
        "stream: a resumed run reads past what was trained",
        TRAINING + "stream.py",
        "if epoch > first or number >= skipped:",
        "if True:",
        "training/test_stream.py::test_a_resumed_stream_goes_on_with_the_same_batches[0]",
    ),
    Break(
        "stream: a broken picture does not end it",
        TRAINING + "stream.py",
        "            return None\n\n\nclass _Decoded",
        "            raise\n\n\nclass _Decoded",
        "training/test_stream.py::test_a_broken_picture_does_not_end_a_stream",
    ),
    Break(
        "failures: missing weights are not left random",
        "vlkd_hub/hub/loading.py",
        "    if holes:",
        "    if False:",
        "training/test_checks.py::test_missing_weights_are_not_left_random",
    ),
    Break(
        "failures: a temperature that blew up",
        TRAINING + "trainer.py",
        "if not value >= math.log(self.args.min_logit_scale):",
        "if False:",
        "training/test_checks.py::test_a_temperature_that_blew_up",
    ),
    Break(
        "failures: a loss that is no number",
        TRAINING + "trainer.py",
        "if not torch.isfinite(value):",
        "if False:",
        "training/test_trainer.py::test_a_part_that_is_not_finite_is_named",
    ),
    Break(
        "failures: a key that no recipe has",
        TRAINING + "recipe.py",
        "        if key not in fields:",
        "        if False:",
        "training/test_recipe.py::test_refuses",
    ),
    Break(
        "method: W'_e starts as the pseudo-inverse of W_e",
        TRAINING + "build.py",
        "    student.tie_weights()\n    invert_text_projection(student)",
        "    student.tie_weights()",
        "training/test_build.py::test_the_way_back_inverts_a_start_that_is_not_solved",
    ),
    Break(
        "method: SCST makes better samples likelier",
        TRAINING + "methods/scst.py",
        "(losses * advantage[rows])",
        "(-losses * advantage[rows])",
        "training/test_scst.py::test_the_gradient_raises_what_scored_better",
    ),
    Break(
        "method: the reward's document frequencies are the corpus's",
        TRAINING + "rewards.py",
        "return self.size",
        "return list.__len__(self)",
        "training/test_rewards.py",
    ),
)


def main() -> int:
    """Run the rows that were asked for; 0 where every break was noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only guarantees that hold one of these")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    chosen = parser.parse_args()
    rows = [row for row in BREAKS if not chosen.words or any(word in row.guarantee for word in chosen.words)]
    with tempfile.TemporaryDirectory() as folder:  # a guard that fails anyway would seem to notice
        whole = tested(copied(Path(folder)), sorted({row.test for row in rows}))
    if whole.returncode:
        print(f"Nothing is broken yet, and not every test passes:\n{whole.stdout[-2000:]}", file=sys.stderr)
        return 2
    found = []
    for row in rows:
        outcome = run(row)
        print(f"{outcome:24} {row.guarantee}", flush=True)
        found.append((row, outcome))
    if chosen.write:
        PAGE.write_text(page(found), encoding="utf-8")
    return 0 if all(outcome == NOTICED for _, outcome in found) else 1


def run(row: Break) -> str:
    """Break one line in a copy and run its guard there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        file = copy / row.file
        text = file.read_text(encoding="utf-8")
        if text.count(row.old) != 1:
            return f"**the line is there {text.count(row.old)} times**"
        file.write_text(text.replace(row.old, row.new), encoding="utf-8")
        done = tested(copy, [row.test])
    return {0: PASSED, 1: NOTICED}.get(done.returncode, f"{WRONG}: {done.stdout[-200:]}")


def copied(folder: Path) -> Path:
    """Put packages and tests into a folder."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def tested(copy: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy on the copy's own packages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(copy / path) for path in PATHS)}
    line = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
    return subprocess.run(line, cwd=copy, env=environment, capture_output=True, text=True, timeout=900, check=False)


def page(found: list[tuple[Break, str]]) -> str:
    """The table, as Markdown."""
    lines = [
        "# Broken on purpose",
        "",
        "A guarantee is worth what its test notices. Each line below was broken in a copy, and the test beside it run",
        "there: `python tests/broken_on_purpose.py --write` does it all again and writes this page.",
        "",
        "| guarantee | file | the line | becomes | test | |",
        "|---|---|---|---|---|---|",
    ]
    for row, outcome in found:
        cells = (row.guarantee, f"`{row.file}`", code(row.old), code(row.new), f"`tests/{row.test}`", outcome)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """A line of code in a table's cell."""
    return "`" + " ".join(text.replace("|", "\\|").split()) + "`"


if __name__ == "__main__":
    sys.exit(main())
