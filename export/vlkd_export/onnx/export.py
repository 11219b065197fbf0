"""Assemble the bundle: graphs, settings, the gate, the certificate, the manifest. All or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from vlkd_export.certificate import write_certificate
from vlkd_export.golden import TEXTS, GoldenPicture, drawn_pictures, read_pictures
from vlkd_export.onnx.bundle_files import generation_spec, lineage_of, write_settings
from vlkd_export.onnx.cross_attention import cross_attention_spec
from vlkd_export.onnx.decoder import decoder_spec
from vlkd_export.onnx.graph import GraphSpec, export_graph
from vlkd_export.onnx.image_encoder import image_encoder_spec
from vlkd_export.onnx.text_encoder import text_encoder_spec
from vlkd_export.parity import check_tensors, check_tokens
from vlkd_export.settings import ExportSettings
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.bundle import GenerationSpec, Manifest, write_manifest
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.inference import load_processor
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_hub.runtime import ImageProcessor, OnnxStudent
from vlkd_hub.runtime.generation_settings import unsupported_options

__all__ = ["export_bundle", "load_reference"]

LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers", "numpy", "pillow", "vlkd-hub")

Say = Callable[[str], None]


def export_bundle(model_path: Path, output: Path, settings: ExportSettings, say: Say = lambda line: None) -> Manifest:
    """Write the student at ``model_path`` as a bundle at ``output``, if and only if it passes the gate.

    Args:
        model_path: folder of a saved student.
        output: the bundle; a former bundle there is replaced at the end, anything else is left alone.
        settings: what was asked for.
        say: told each stage in a few words.

    Returns:
        The manifest of the bundle.

    Raises:
        InvalidInputError: there is no VLKD student, or it generates in a way that the runtime does not have.
        BundleError: ``output`` exists and is not a bundle.
        ParityError: a graph or a text differs from torch; nothing is left at ``output`` but what was there.
        DataError: the golden data set cannot be read.
    """
    _check_output(output)
    pictures = {"drawn": drawn_pictures()}
    if settings.golden is not None:
        pictures["data"] = read_pictures(settings.golden, settings.golden_split, settings.golden_count)
    reference = load_reference(model_path)
    generation = generation_spec(reference.model) if settings.task == "image-text-to-text" else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        bundle = Path(work) / "bundle"
        bundle.mkdir()
        write_settings(reference, bundle)
        _write_graphs(reference.model, ImageProcessor.from_pretrained(bundle), bundle, settings, say)
        manifest = write_manifest(bundle, _manifest(reference, bundle, model_path, settings, generation))
        say("comparing with torch")
        student = OnnxStudent.from_pretrained(bundle, verify=False)
        parity = _gate(reference, student, pictures, bundle, settings)
        manifest = write_manifest(bundle, replace(manifest, parity=parity))
        _swap(bundle, output, Path(work) / "former")
    return manifest


def _check_output(output: Path) -> None:
    if output.exists() and not (output / "manifest.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"{output} exists and is not a bundle; it is left alone. Choose another --output.")


def load_reference(path: Path) -> TorchReference:
    """Load a student in float32 and eval mode, with its processor.

    Raises:
        InvalidInputError: there is no VLKD student, or it generates in a way that the runtime does not have.
    """
    if not (path / "config.json").is_file():
        raise InvalidInputError(f"{path} holds no config.json; give the folder of a saved student.")
    kind = AutoConfig.from_pretrained(path).model_type
    if kind != "vlkd":
        raise InvalidInputError(f"{path} is a {kind!r}; vlkd export takes a VLKD student (vlkd distill makes one).")
    try:
        model = VlkdForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
        processor = load_processor(path)
    except OSError as error:
        raise InvalidInputError(f"{path} is not a whole student: {' '.join(str(error).split())}") from error
    refused = unsupported_options(model.generation_config.to_dict())
    if refused:
        raise InvalidInputError(
            f"generation_config.json sets {', '.join(refused)}, which the runtime does not do. Remove them, save the "
            "student and export again."
        )
    return TorchReference(model, processor)


def _write_graphs(
    model: VlkdForConditionalGeneration,
    image_processor: ImageProcessor,
    bundle: Path,
    settings: ExportSettings,
    say: Say,
) -> None:
    specs: list[Callable[[], GraphSpec]] = [
        lambda: image_encoder_spec(model, *image_processor.output_size),
        lambda: text_encoder_spec(model),
    ]
    if settings.task == "image-text-to-text":
        specs += [lambda: cross_attention_spec(model), lambda: decoder_spec(model)]
    folder = bundle / "onnx"
    folder.mkdir()
    for make in specs:
        spec = make()
        say(f"graph {spec.name}")
        export_graph(spec, folder, settings.opset)


def _manifest(
    reference: TorchReference,
    bundle: Path,
    model_path: Path,
    settings: ExportSettings,
    generation: GenerationSpec | None,
) -> Manifest:
    model, processor = reference.model, reference.processor
    return Manifest(
        model_type=model.config.model_type,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        opset=settings.opset,
        precision="fp32",
        embedding_dim=model.config.projection_dim,
        image_size=ImageProcessor.from_pretrained(bundle).output_size[0],
        generation=generation,
        library_versions={name: version(name) for name in LIBRARIES},
        tasks=dict(processor.tasks) if generation is not None else {},
        parity={},
        lineage=lineage_of(model, model_path),
    )


def _gate(
    reference: TorchReference,
    student: OnnxStudent,
    pictures: dict[str, list[GoldenPicture]],
    bundle: Path,
    settings: ExportSettings,
) -> dict[str, Any]:
    """Compare, write the certificate, and return what goes into ``manifest.parity``."""
    every = [picture for some in reversed(pictures.values()) for picture in some]
    tensors = check_tensors(reference, student, every, settings.atol)
    reports: dict[str, Any] = {}
    tokens = {}
    for name, some in pictures.items():
        found, tokens[name] = check_tokens(reference, student, some)
        reports[name] = [asdict(report) for report in found]
    with torch.no_grad():
        image_embeds = {name: _embed_pictures(reference, some) for name, some in pictures.items()}
        text_embeds = reference.model.encode_text(*reference.texts(TEXTS))[0].numpy()
    write_certificate(bundle, pictures, image_embeds, text_embeds, tokens)
    return {
        "atol": settings.atol,
        "pictures": {name: len(some) for name, some in pictures.items()},
        "tensors": [asdict(report) for report in tensors],
        "tokens": reports,
    }


def _embed_pictures(reference: TorchReference, pictures: Sequence[GoldenPicture]) -> Any:
    rows = [reference.model.encode_image(reference.pixels([picture]))[0] for picture in pictures]
    return torch.cat(rows).numpy()


def _swap(bundle: Path, output: Path, former: Path) -> None:
    """Put the new bundle in place; the former one goes with the temporary folder that holds it."""
    if output.exists():
        output.rename(former)
    try:
        bundle.rename(output)
    except OSError:
        if former.exists():
            former.rename(output)
        raise
    shutil.rmtree(former, ignore_errors=True)
