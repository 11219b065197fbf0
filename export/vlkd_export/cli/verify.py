"""``vlkd verify``: is this bundle what was exported, and does it still answer so?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.reports import write_report

__all__ = ["verify"]


def verify(
    bundle: Annotated[Path, typer.Argument(help="What vlkd export wrote, or owner/name on the Hub.", metavar="BUNDLE")],
    model: Annotated[
        Path | None, typer.Option("--model", help="The student it came from: compare with torch again.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option("--golden", help="The data set that the export was given: compare on it too.")
    ] = None,
    golden_split: Annotated[str, typer.Option("--golden-split", help="Split of --golden.")] = "validation",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Check a bundle: its files, its graphs' opsets, and its answers against the student it came from.

    Without --model it needs no torch: the answers of the export lie in the bundle. They prove as much as their source:
    somebody who can change the bundle can change them too, so compare with --model, or the fingerprint with the one
    that the exporter published, where that matters.
    """
    from vlkd_export.certificate import check_certificate, check_opsets, read_certificate
    from vlkd_export.golden import drawn_pictures, read_pictures
    from vlkd_hub.errors import BundleError
    from vlkd_hub.hub.folders import bundle_folder
    from vlkd_hub.runtime import OnnxStudent

    bundle = bundle_folder(bundle)
    student = OnnxStudent.from_pretrained(bundle, verify=True)
    own = student.manifest.parity.get("gate") == "task metric"
    if own and model is not None:
        raise BundleError(
            f"{bundle} is {student.manifest.precision}: it was decided on by scores, and its texts may differ from "
            "torch's. Leave --model out, and measure it with vlkd evaluate."
        )
    whose = "its own at its export" if own else "torch's"
    certificate = read_certificate(bundle)
    check_opsets(bundle, student.manifest.opset, certificate)
    data = None
    if golden is not None:
        if "data" not in certificate["sets"]:
            raise BundleError(f"{bundle} was exported without --golden, so there is nothing to compare {golden} with.")
        data = read_pictures(golden, golden_split, len(certificate["sets"]["data"]["pictures"]))
    again = check_certificate(student, certificate, data)
    report: dict[str, Any] = {"bundle": str(bundle), "files": len(student.manifest.files), "certificate": again}
    typer.echo(f"{report['files']} files as exported, graphs in opset {student.manifest.opset}")
    typer.echo(f"{again['pictures']} pictures embedded within {again['max_abs']:.1e} of {whose}")
    typer.echo(f"{again['texts']} captions and answers equal to {whose}, token by token")
    typer.echo(f"{again['tensors']} tensors inside the graphs as {whose}")
    if model is not None:
        from vlkd_export.onnx.export import load_reference
        from vlkd_export.parity import check_tensors
        from vlkd_export.token_parity import check_tokens

        reference, pictures = load_reference(model), [*(data or []), *drawn_pictures()]
        reference.length = student.manifest.fixed_shapes.get("length")
        tensors = check_tensors(reference, student, pictures, student.manifest.parity["atol"])
        tokens, _ = check_tokens(reference, student, pictures)
        report |= {"tensors": [asdict(item) for item in tensors], "tokens": [asdict(item) for item in tokens]}
        typer.echo(f"equal to {model} in torch: {len(tensors)} graphs, {sum(item.texts for item in tokens)} texts")
    write_report(json_path, report)
