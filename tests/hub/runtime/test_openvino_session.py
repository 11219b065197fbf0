"""OpenVINO behind the methods of an onnxruntime session: the same answers, and nothing taken from an earlier run."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError

openvino = pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "vlkd-hub[openvino]"')

from vlkd_hub.runtime.openvino_session import OpenVinoSession  # noqa: E402
from vlkd_hub.runtime.sessions import open_session  # noqa: E402


def texts(rows: int, length: int) -> dict[str, Any]:
    """Inputs of the text encoder."""
    ids = np.random.RandomState(rows * length).randint(5, 20, (rows, length)).astype(np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> OpenVinoSession:
    return OpenVinoSession(tiny_bundle / "onnx" / "text_encoder.onnx", threads=1, precision="f32")


def test_the_same_answers_in_the_order_asked_for(session: OpenVinoSession, tiny_bundle: Path) -> None:
    """In any shape, and one output alone."""
    plain = open_session(tiny_bundle / "onnx" / "text_encoder.onnx", threads=1)
    for rows, length in ((1, 1), (3, 9), (2, 4)):
        feeds = texts(rows, length)
        for found, wanted in zip(session.run(None, feeds), plain.run(None, feeds), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    (states,) = session.run(["text_states"], feeds)
    assert states.shape == (2, 4, 16)


def test_an_answer_stays_what_it_was(session: OpenVinoSession) -> None:
    """A request's buffers are used again; what was handed out may not change with them."""
    first = session.run(None, texts(2, 5))
    kept = [array.copy() for array in first]
    session.run(None, {"input_ids": texts(2, 5)["input_ids"][::-1] + 1, "attention_mask": np.ones((2, 5), np.int64)})
    for array, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_threads_share_a_session(session: OpenVinoSession) -> None:
    """A student is shared between the threads of a server."""
    feeds = [texts(1 + number % 3, 2 + number % 5) for number in range(24)]
    alone = [session.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda feed: session.run(None, feed)[0], feeds))
    for found, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "feeds",
    [
        {"input_ids": np.ones((1, 3), np.int64)},
        {"input_ids": np.ones((1, 3), np.int64), "mask": np.ones((1, 3), np.int64)},
        {"input_ids": np.ones((1, 3), np.float32), "attention_mask": np.ones((1, 3), np.int64)},
    ],
)
def test_wrong_inputs_are_told(session: OpenVinoSession, feeds: dict[str, Any]) -> None:
    """OpenVINO would take a missing input from the run before, and turn floats into token numbers."""
    session.run(None, texts(1, 3))
    with pytest.raises(InvalidInputError, match=r"takes attention_mask \(int64\), input_ids \(int64\), got"):
        session.run(None, feeds)


def test_after_an_error_the_session_goes_on(session: OpenVinoSession) -> None:
    """Shapes that do not fit are an error of that run alone."""
    wanted = session.run(None, texts(2, 3))[0]
    with pytest.raises(InvalidInputError, match="cannot run the graph on these inputs"):
        session.run(None, {"input_ids": np.ones((1, 3, 1), np.int64), "attention_mask": np.ones((1, 3), np.int64)})
    with pytest.raises(InvalidInputError, match="no output"):
        session.run(["vectors"], texts(2, 3))
    np.testing.assert_array_equal(session.run(None, texts(2, 3))[0], wanted)


def test_a_precision_that_is_not_there_is_an_error(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO would run in fp32 and say nothing."""
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, device, name: ["FP32", "INT8"])
    with pytest.raises(MissingDependencyError, match="bf16 was asked for and this processor does not have it"):
        OpenVinoSession(tiny_bundle / "onnx" / "decoder.onnx", precision="bf16")


def test_hostile_and_broken_files_are_refused(tmp_path: Path) -> None:
    """The same look at the file as before an onnxruntime session."""
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes([8, 9]))
    with pytest.raises(BundleError, match="OpenVINO .* cannot open"):
        OpenVinoSession(path)
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(BundleError, match="not a well-formed ONNX file"):
        OpenVinoSession(path)
    with pytest.raises(InvalidInputError, match="threads must be 1 or more"):
        OpenVinoSession(path, threads=0)


def test_placement_counts_the_layers(session: OpenVinoSession) -> None:
    """So that a person sees what really runs in which type."""
    placed = session.placement()
    assert placed["f32"] > 10 and "bf16" not in placed


SIGNALLED = """
import faulthandler, gc, os, signal, sys
from vlkd_hub.runtime.openvino_session import OpenVinoSession

faulthandler.enable()  # from here on this thread takes its signals on a stack of their own
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
sessions = [OpenVinoSession(sys.argv[1], threads=1) for _ in range(2)]
while sessions:
    del sessions[0]
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_arrive_after_sessions_have_gone(tiny_bundle: Path) -> None:
    """A server that unloads a model must live on to hear SIGTERM; with a core a session it died of it, on AMX."""
    line = [sys.executable, "-c", SIGNALLED, str(tiny_bundle / "onnx" / "text_encoder.onnx")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["heard", "heard"]), done.stderr[-2000:]
