"""Open what is to be measured: a saved torch model or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass

from vlkd_hub.errors import DataError
from vlkd_hub.hub.folders import model_folder
from vlkd_training.evaluation.protocol import Student

__all__ = ["OpenedModel", "open_model"]


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to measure.

    Attributes:
        student: runs it.
        parameters: shared tables counted once; None for a bundle, which does not say.
        size_bytes: of the weights; of a bundle, all its files.
    """

    student: Student
    parameters: int | None
    size_bytes: int


def open_model(path: str, *, batch_size: int, device: str) -> OpenedModel:
    """Open a folder or Hub id of a torch model, or a bundle's folder (which has ``manifest.json``).

    Raises:
        DataError: the folder is empty of models, or cannot be opened.
    """
    folder = model_folder(path)
    if (folder / "manifest.json").is_file():
        from vlkd_hub.runtime import OnnxStudent

        bundle = OnnxStudent.from_pretrained(folder, batch_size=batch_size)
        return OpenedModel(bundle, None, sum(file.size for file in bundle.manifest.files.values()))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise DataError(f"{folder} holds no model: expected config.json (torch) or manifest.json (bundle).")
    from vlkd_hub.inference import TorchStudent

    try:
        student = TorchStudent.from_pretrained(folder, device=device, batch_size=batch_size)
    except OSError as error:
        raise DataError(f"The model {path!r} cannot be opened: {error}") from error
    weights = student.model.parameters()
    return OpenedModel(
        student, student.num_parameters, sum(weight.numel() * weight.element_size() for weight in weights)
    )
