"""From what a person typed to a folder: itself, or the snapshot of a repository. A folder costs no import."""

from __future__ import annotations

from pathlib import Path

from vlkd_hub.hub.names import repo_name
from vlkd_hub.hub.weights import check_weights

__all__ = ["bundle_folder", "model_folder", "student_folder"]


def model_folder(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a student in torch or of a bundle; of a repository that holds both, the student.

    Args:
        model: a folder, ``owner/name`` or ``owner/name@revision``.
        revision: branch, tag or commit of the repository.

    Raises:
        HubError: the repository cannot be fetched, or holds neither.
        WeightsError: its weights are not well-formed safetensors.
        InvalidInputError: a revision of a folder.
    """
    name = repo_name(model, revision)
    if name is None:
        return Path(model)
    from vlkd_hub.hub.fetch import fetch_model

    return fetch_model(name)


def student_folder(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a student in torch, its weights checked; a folder that is not there is left to the caller.

    Args:
        model: a folder, ``owner/name`` or ``owner/name@revision``.
        revision: branch, tag or commit of the repository.

    Raises:
        HubError: the repository cannot be fetched, or holds no student.
        WeightsError: it holds no weights, or not well-formed safetensors.
        InvalidInputError: a revision of a folder.
    """
    name = repo_name(model, revision)
    if name is None:
        folder = Path(model)
        if folder.is_dir():
            check_weights(folder)
        return folder
    from vlkd_hub.hub.fetch import fetch_student

    return fetch_student(name)


def bundle_folder(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a bundle.

    Args:
        model: a folder, ``owner/name`` or ``owner/name@revision``.
        revision: branch, tag or commit of the repository.

    Raises:
        HubError: the repository cannot be fetched, or holds no bundle.
        InvalidInputError: a revision of a folder.
    """
    name = repo_name(model, revision)
    if name is None:
        return Path(model)
    from vlkd_hub.hub.fetch import fetch_bundle

    return fetch_bundle(name)
