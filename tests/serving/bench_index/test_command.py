"""``vlkd bench index`` on a few vectors: every figure of the report is there, and the next run finds the index."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from vlkd_serving.bench_index.command import index
from vlkd_serving.index import IndexReader

SIZES = ["--vectors", "3000", "--dim", "16", "--clusters", "30", "--queries", "40", "--adds", "50", "--rounds", "1"]


def test_the_report(tmp_path: Path) -> None:
    """Recall is what was asked for, nothing that was added is missing, and ratios are those of the printed rates."""
    import typer

    app = typer.Typer()
    app.command()(index)
    arguments = [*SIZES, "--kind", "ivf", "--threads", "1", "--work", str(tmp_path), "--json", str(tmp_path / "r.json")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "r.json").read_text())
    speed, live = report["speed"], report["live"]
    assert speed["kind"].startswith("ivf") and speed["recall_at_10"] >= 0.9
    assert set(speed["queries_a_second"]) == {"1", "40"}
    assert set(speed["queries_a_second"]["1"]) == {
        "flat", "faiss", "faiss_unscored", "index", "index_mapped", "index_items",
    }  # fmt: skip
    assert all(rate > 0 for rates in speed["queries_a_second"].values() for rate in rates.values())
    assert speed["of_bare_faiss"].keys() == speed["of_bare_faiss_mapped"].keys() == speed["times_flat"].keys()
    assert live["added"] == 50 and live["failed"] == live["not_found"] == live["missing_at_the_end"] == 0
    assert report["build"]["peak_bytes"] > 0 and report["serve"]["seconds_to_first_answer"] > 0
    assert "of bare FAISS" in found.output and "live: 50 added" in found.output
    assert len(IndexReader.open(tmp_path / "index")) == 3000
