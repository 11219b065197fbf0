"""The decoder for greedy search takes the tokens of the ordinary one, always, and says when it does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_export.onnx import greedy_decoder as module
from vlkd_export.onnx.graph import save_graph
from vlkd_export.onnx.greedy_decoder import add_greedy_decoder, greedy_decoder
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.decoder import CachedDecoder
from vlkd_hub.runtime.sessions import open_session

WIDTH, VOCAB = 48, 400


def head(turned: bool, tied: bool = True) -> tuple[onnx.ModelProto, np.ndarray]:
    """Only the output layer: the state is the row of the input token, times ten, plus noise of its own."""
    random = np.random.RandomState(0)
    table = random.randn(VOCAB, WIDTH).astype(np.float32) * 0.1
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Gather", ["words", "input_ids"], ["state"])]
    weights = [numpy_helper.from_array(table[::-1].copy() if not tied else table, "words")]
    if turned:
        weights.append(numpy_helper.from_array(table, "table")) if not tied else None
        nodes.append(helper.make_node("Transpose", ["words" if tied else "table"], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["state", "t"], ["logits"]))
    else:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(table.T), "t"))
        nodes.append(helper.make_node("MatMul", ["state", "t"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "head",
        [info("input_ids", TensorProto.INT64, ["batch", "step"])],
        [info("logits", TensorProto.FLOAT, ["batch", "step", VOCAB])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), table


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_the_bound_holds_and_the_logits_are_exact(
    turned: bool, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word left out is below ``rest``; every word kept has its own logit."""
    monkeypatch.setattr(module, "CANDIDATES", 40)
    model, _ = head(turned, tied)
    save_graph(model, tmp_path / "decoder.onnx")
    save_graph(greedy_decoder(model), tmp_path / "greedy_decoder.onnx")
    plain, greedy = (open_session(tmp_path / f"{name}.onnx") for name in ("decoder", "greedy_decoder"))
    ids = np.arange(VOCAB)[:, None]
    logits = plain.run(None, {"input_ids": ids})[0][:, 0]
    words, found, rest = greedy.run(None, {"input_ids": ids})
    assert words.shape == found.shape == (VOCAB, 40) and rest.shape == (VOCAB, 1)
    np.testing.assert_allclose(found, np.take_along_axis(logits, words, axis=1), atol=1e-5)
    left = logits.copy()
    np.put_along_axis(left, words, -np.inf, axis=1)
    assert (left.max(axis=1, keepdims=True) <= rest + 1e-5).all()
    assert (words[np.arange(VOCAB)] == logits.argmax(axis=1)[:, None]).any(axis=1).all()
    assert ((found > rest).sum(axis=1) >= 2).mean() > 0.5  # a bound that never decides would hold as well
    model.graph.node[-1].op_type = "Add"
    with pytest.raises(InvalidInputError, match="not a product with a table"):
        greedy_decoder(model)


class Counted:
    """Counts the runs of a session, and may forget that it knew."""

    def __init__(self, session: Any, knows: bool = True) -> None:
        self.session, self.knows, self.runs = session, knows, 0

    def run(self, names: Any, feeds: dict[str, Any]) -> list[Any]:
        self.runs += 1
        words, logits, rest, *present = self.session.run(names, feeds)
        return [words, logits, rest if self.knows else rest + 1e9, *present]


@pytest.mark.parametrize("knows", [True, False])
def test_the_tokens_of_the_student_stay_the_same(
    knows: bool, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the new graph knows the largest logit or has to ask the ordinary one; with an end that may not come."""
    path = tmp_path / "decoder.onnx"
    save_graph(onnx.load(tiny_bundle / "onnx" / "decoder.onnx"), path)
    save_graph(greedy_decoder(onnx.load(path)), tmp_path / "greedy_decoder.onnx")
    plain, fast = (OnnxStudent.from_pretrained(tiny_bundle, threads=1) for _ in range(2))
    greedy = Counted(open_session(tmp_path / "greedy_decoder.onnx"), knows)
    fast.sessions["greedy_decoder"] = greedy
    random = np.random.RandomState(1)
    context = random.randn(4, 6, 16).astype(np.float32) * 3
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 6, [1] + [0] * 5])
    asked: list[int] = []
    real = CachedDecoder.step
    monkeypatch.setattr(CachedDecoder, "step", lambda self, ids: asked.append(1) or real(self, ids))
    for options in ({"max_new_tokens": 9}, {"max_new_tokens": 7, "min_new_tokens": 7}):
        settings = plain.settings("caption", num_beams=1, **options)
        expected = plain.generate_from_states(context, mask, settings)
        asked.clear()
        before = greedy.runs
        assert fast.generate_from_states(context, mask, settings) == expected
        assert greedy.runs > before and (len(asked) == greedy.runs - before or knows)
    for options in ({"num_beams": 2}, {"no_repeat_ngram_size": 2}, {"do_sample": True, "seed": 3}):
        before = greedy.runs
        settings = plain.settings("caption", max_new_tokens=5, **options)
        assert fast.generate_from_states(context, mask, settings) == plain.generate_from_states(context, mask, settings)
        assert greedy.runs == before  # these need every logit


def test_it_stays_only_if_it_is_faster(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearly: the report tells the times."""
    spec = read_manifest(tiny_bundle).generation
    assert spec is not None
    path = tmp_path / "decoder.onnx"
    path.write_bytes((tiny_bundle / "onnx" / "decoder.onnx").read_bytes())
    shape = {"cross": 5, "past": 3}
    feeds: dict[str, Any] = {
        "input_ids": np.array([[3, 4], [5, 6]]),
        "context_mask": np.ones((2, 5), np.int64),
        "past_mask": np.ones((2, 3), np.int64),
    }
    for kind, length in shape.items():
        for layer in range(spec.num_layers):
            for part in ("key", "value"):
                feeds[f"{kind}_{part}.{layer}"] = np.zeros((2, spec.num_heads, length, spec.head_dim), np.float32)
    small = add_greedy_decoder(path, feeds)
    assert not small.kept and small.reason.startswith("the output layer is small") and small.ms is None
    monkeypatch.setattr(module, "SMALL_TABLE", 0)
    for times, kept in (((1.0, 2.0), False), ((1.0, 0.97), False), ((2.0, 1.0), True)):
        monkeypatch.setattr(module, "median_times", lambda sessions, feeds, times=times: times)
        report = add_greedy_decoder(path, feeds)
        assert report.kept is kept and report.ms == times and (tmp_path / "greedy_decoder.onnx").exists() is kept


def test_a_decoder_of_another_kind_goes_without(tmp_path: Path) -> None:
    """Every decoder can be exported; this graph is an extra."""
    model, _ = head(turned=True)
    model.graph.node[-1].op_type = "Add"
    onnx.save_model(model, tmp_path / "decoder.onnx")
    report = add_greedy_decoder(tmp_path / "decoder.onnx", {})
    assert not report.kept and "not a product with a table" in report.reason
    assert [file.name for file in tmp_path.iterdir()] == ["decoder.onnx"]
