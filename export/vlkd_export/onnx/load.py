"""From a saved folder to the model in torch, with the exporter of its class."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from vlkd_export.onnx.dual_encoder import DualEncoderExporter
from vlkd_export.onnx.model_exporter import ModelExporter
from vlkd_export.onnx.smke import SmkeExporter
from vlkd_export.onnx.vlkd import VlkdExporter
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.inference import load_processor

__all__ = ["EXPORTERS", "load_reference"]

EXPORTERS: dict[str, type[ModelExporter]] = {
    "vlkd": VlkdExporter,
    "vlkd_dual_encoder": DualEncoderExporter,
    "vlkd_smke": SmkeExporter,
    "clip": DualEncoderExporter,
}
"""``model_type`` of ``config.json`` -> exporter."""


def load_reference(path: Path) -> TorchReference:
    """Load a model on the CPU, in float32 and eval mode, with its processor.

    Args:
        path: a folder, or ``owner/name`` or ``owner/name@revision`` on the Hub.

    Raises:
        HubError: the repository cannot be fetched.
        WeightsError: the weights are not well-formed safetensors.
        InvalidInputError: there is no model, one of a class that is not exported, or it generates in a way that the
            runtime does not have.
    """
    path = path if path.is_dir() else student_folder(path)
    if not (path / "config.json").is_file():
        raise InvalidInputError(f"{path} holds no config.json; give the folder of a saved student.")
    kind = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
    if kind not in EXPORTERS:
        raise InvalidInputError(
            f"{path} is a {kind!r}; vlkd export takes {', '.join(EXPORTERS)} (vlkd distill makes a student)."
        )
    exporter = EXPORTERS[kind]
    try:
        model = exporter.load(student_folder(path)).eval()
        processor = load_processor(path)
    except OSError as error:
        raise InvalidInputError(f"{path} is not a whole model: {' '.join(str(error).split())}") from error
    return TorchReference(exporter(model), processor)
