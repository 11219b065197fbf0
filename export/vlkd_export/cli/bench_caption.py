"""``vlkd bench caption``: one caption of one picture, in torch, in ONNX and over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.reports import write_report

__all__ = ["caption"]

PICTURES = 8
BUSY = 0.2
"""Share of the processors at other work from which a warning is printed."""
SPLITS = ("test", "validation", "train")


def caption(
    model: Annotated[Path, typer.Argument(help="Folder of the student in torch.", metavar="MODEL")],
    bundle: Annotated[Path, typer.Argument(help="Its export.", metavar="BUNDLE")],
    data: Annotated[Path | None, typer.Option("--data", help="Data set with pictures; default: drawn ones.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed captions of each.")] = 25,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of each; default: every processor.")] = None,
    with_http: Annotated[bool, typer.Option("--http", help="Start a server and time it as well.")] = False,
    url: Annotated[str | None, typer.Option("--url", help="Time the server that runs there as well.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Batch sizes, such as 1,8: texts of one length.")] = None,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, help="Tokens of each text with --batch.")] = 20,
    picture_encoded: Annotated[
        bool, typer.Option("--picture-encoded", help="With --batch: time the writing alone as well.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Milliseconds for one caption of one picture at batch 1: torch fp32 generate, ONNX, and over HTTP.

    Same student, same pictures, same words (checked first), runs in turns, medians. With --batch every text has the
    same number of tokens, and torch and ONNX are compared at each batch size.
    """
    import torch

    if batch is not None:
        _by_batch(model, bundle, data, _sizes(batch), runs, threads, new_tokens, picture_encoded, json_path)
        return
    from vlkd_export.caption_latency import busy_share, http_captioner, measure, running_server, summary
    from vlkd_hub.inference import TorchStudent
    from vlkd_hub.runtime import OnnxStudent
    from vlkd_hub.runtime.sessions import available_cpus

    threads = threads or available_cpus()
    torch.set_num_threads(threads)
    in_torch = TorchStudent.from_pretrained(model, picture_cache_bytes=0)  # each run encodes the picture
    in_onnx = OnnxStudent.from_pretrained(bundle, threads=threads)
    captioners: dict[str, Any] = {
        "torch": lambda picture: in_torch.caption([picture])[0],
        "onnx": lambda picture: in_onnx.caption([picture])[0],
    }
    with ExitStack() as stack:
        if with_http and url is None:
            url = stack.enter_context(running_server(bundle, threads))
        if url is not None:
            captioners["http"] = stack.enter_context(http_captioner(url))
        pictures, busy = _pictures(data), busy_share()
        report = summary(measure(captioners, pictures, runs), threads) | {"busy_before": busy}
    for name in captioners:
        low, high = report["spread_ms"][name]
        ratio = f"  {report[f'ratio_{name}']:.1f}x torch" if name != "torch" else ""
        typer.echo(f"{name:5}  {report[f'{name}_ms']:8.2f} ms  ({low:.2f} to {high:.2f}){ratio}")
    typer.echo(f"{threads} threads, batch 1, median of {runs}; load average {report['load_average']}")
    _finish(report, busy, json_path)


def _by_batch(
    model: Path,
    bundle: Path,
    data: Path | None,
    sizes: list[int],
    runs: int,
    threads: int | None,
    new_tokens: int,
    picture_encoded: bool,
    json_path: Path | None,
) -> None:
    """Torch against ONNX at each batch size, with the pictures encoded already where asked, and end to end."""
    import torch

    from vlkd_export.caption_latency import busy_share
    from vlkd_export.writing_latency import measure_writing
    from vlkd_hub.inference import TorchStudent
    from vlkd_hub.runtime import OnnxStudent
    from vlkd_hub.runtime.sessions import available_cpus

    threads = threads or available_cpus()
    torch.set_num_threads(threads)
    in_torch = TorchStudent.from_pretrained(model, picture_cache_bytes=0)
    in_onnx = OnnxStudent.from_pretrained(bundle, threads=threads)
    pictures, busy = _pictures(data), busy_share()
    measured = []
    for encoded in (True, False) if picture_encoded else (False,):
        for size in sizes:
            found = measure_writing(
                in_torch,
                in_onnx,
                pictures,
                batch=size,
                new_tokens=new_tokens,
                runs=runs,
                picture_encoded=encoded,
            )
            measured.append(found)
            what = "picture encoded" if encoded else "end to end"
            (a, b), (c, d) = found["spread_ms"]["torch"], found["spread_ms"]["onnx"]
            typer.echo(
                f"{what:15}  batch {size:2}  torch {found['torch_ms']:8.2f} ms ({a:.2f} to {b:.2f})  onnx "
                f"{found['onnx_ms']:7.2f} ms ({c:.2f} to {d:.2f})  {found['ratio']:.2f}x torch, pair by pair "
                f"{found['ratio_of_pairs']:.2f}x; load average {found['load_average']['before'][:1]}"
            )
    typer.echo(f"{threads} threads, {new_tokens} tokens a text, the same ones, medians of {runs} runs in turns")
    _finish({"threads": threads, "busy_before": busy, "measured": measured}, busy, json_path)


def _sizes(words: str) -> list[int]:
    from vlkd_hub.errors import InvalidInputError

    parts = words.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InvalidInputError(f"--batch takes whole numbers of 1 or more with commas, such as 1,8; got {words!r}.")
    return [int(part) for part in parts]


def _finish(report: dict[str, Any], busy: float | None, json_path: Path | None) -> None:
    """Warn where the machine was at other work, and write the report."""
    if busy is not None and busy > BUSY:
        words = f"warning: {busy:.0%} of the processors was at other work before the run; the ratios say little"
        typer.secho(words, fg=typer.colors.YELLOW, err=True)
    write_report(json_path, report)


def _pictures(data: Path | None) -> list[Any]:
    """RGB pictures of the first split of ``data`` that there is, or drawn ones of ordinary size."""
    from vlkd_export.golden import drawn_pictures, read_pictures

    if data is None:
        golden = [picture for picture in drawn_pictures() if min(picture.image.size) >= 200]
    else:
        split = next((name for name in SPLITS if (data / name / "metadata.jsonl").is_file()), SPLITS[0])
        golden = read_pictures(data, split, PICTURES)
    return [picture.image.convert("RGB") for picture in golden]
