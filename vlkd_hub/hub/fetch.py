"""Models from the Hub, through the cache that every Hugging Face library shares; offline from there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vlkd_hub.bundle import MANIFEST_NAME
from vlkd_hub.errors import BundleError, HubError
from vlkd_hub.hub.names import RepoName, parse_repo
from vlkd_hub.hub.weights import PICKLES, check_weights

__all__ = ["BUNDLE_FOLDER", "explain", "fetch", "fetch_bundle", "fetch_model", "fetch_student", "pull"]

BUNDLE_FOLDER = "bundle"
"""Where the bundle stands in a repository that also holds the student."""
NOT_FOR_BUNDLES = ("*.safetensors", "*.safetensors.index.json")
NOT_FOR_STUDENTS = ("*.onnx", "*.onnx.data", f"{BUNDLE_FOLDER}/*")


def fetch_student(name: RepoName) -> Path:
    """The snapshot of a student for torch, its weights checked.

    Raises:
        HubError: the repository cannot be fetched, or holds no student.
        WeightsError: it holds no well-formed safetensors.
    """
    folder = fetch(name, ignore=(*PICKLES, *NOT_FOR_STUDENTS))
    if not (folder / "config.json").is_file():
        raise HubError(f"{name} holds no student for torch: there is no config.json at its top.")
    check_weights(folder)
    return folder


def fetch_bundle(name: RepoName) -> Path:
    """A repository's bundle, from its top or from ``bundle/``, as plain files.

    The shared cache keeps links, which a bundle must not have, so the snapshot stands a second time beside the cache,
    by hard links where the file system has them. Its hashes are checked by whoever opens it.

    Raises:
        HubError: the repository cannot be fetched, or holds no bundle.
    """
    snapshot = fetch(name, ignore=(*PICKLES, *NOT_FOR_BUNDLES))
    inside = next((part for part in ("", BUNDLE_FOLDER) if (snapshot / part / MANIFEST_NAME).is_file()), None)
    if inside is None:
        raise HubError(f"{name} holds no bundle: there is no {MANIFEST_NAME}, at its top or in {BUNDLE_FOLDER}/.")
    plain = Path(constants.HF_HOME) / "vlkd-hub" / name.repo_id.replace("/", "--") / snapshot.name
    if not plain.exists():
        _plain_files(snapshot, plain)
    return plain / inside


def fetch_model(name: RepoName) -> Path:
    """The student of a repository, or where it has no weights for torch, its bundle.

    Raises:
        HubError: the repository cannot be fetched, or holds neither.
        WeightsError: its weights are not well-formed safetensors.
    """
    snapshot = fetch(name, ignore=(*PICKLES, *NOT_FOR_STUDENTS))
    return fetch_student(name) if any(snapshot.glob("*.safetensors")) else fetch_bundle(name)


def pull(repo: str, folder: Path, revision: str | None = None) -> Path:
    """Copy a repository, pickles left out, to a folder that is not there yet.

    Raises:
        HubError: the repository cannot be fetched.
        BundleError: ``folder`` exists.
        WeightsError: a weight file is malformed.
    """
    name = parse_repo(repo, revision)
    if folder.exists():
        raise BundleError(f"{folder} exists; it is left alone. Choose another folder.")
    snapshot = fetch(name, ignore=PICKLES)
    if any(snapshot.glob("*.safetensors")):
        check_weights(snapshot)
    _plain_files(snapshot, folder, link=False)
    return folder


def fetch(name: RepoName, ignore: tuple[str, ...] = PICKLES) -> Path:
    """The snapshot of a repository in the shared cache.

    Args:
        name: what to fetch.
        ignore: patterns of files that stay away.

    Raises:
        HubError: there is no such repository or revision, it is closed, or it is neither reachable nor in the cache.
    """
    try:
        return Path(
            huggingface_hub.snapshot_download(name.repo_id, revision=name.revision, ignore_patterns=list(ignore))
        )
    except Exception as error:  # among them those of the client's HTTP library, whose name differs between versions
        raise HubError(f"{name} cannot be fetched from {constants.ENDPOINT}: {explain(error)}") from error


def explain(error: Exception) -> str:
    """What a failed request means, in one sentence."""
    if isinstance(error, GatedRepoError):
        return "its owner gives it on request only. Ask on its page, then run: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository (nor a folder here), or it is private. To log in: hf auth login"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision."
    if isinstance(error, LocalEntryNotFoundError):
        return (
            "the Hub was not asked or did not answer, and the cache does not hold it whole. There is no folder of that "
            "name here either. Without HF_HUB_OFFLINE=1 and with a network, try again."
        )
    words = " ".join(f"{error} {error.__cause__ or ''}".split())
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"the Hub answered {error.response.status_code} ({words})"
    return f"{type(error).__name__}: {words}"


def _plain_files(snapshot: Path, target: Path, link: bool = True) -> None:
    """Put the snapshot's files at ``target``, all or nothing, with no link among them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        made = Path(work) / "files"
        for path in sorted(snapshot.rglob("*")):
            if path.is_dir():
                continue
            place = made / path.relative_to(snapshot)
            place.parent.mkdir(parents=True, exist_ok=True)
            _plain_file(path.resolve(), place, link)
        try:
            made.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster, with the same files
                raise


def _plain_file(source: Path, place: Path, link: bool) -> None:
    if link:
        try:
            os.link(source, place)
            return
        except OSError:
            pass  # another file system, or one without hard links
    shutil.copyfile(source, place)
