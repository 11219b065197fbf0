"""A student, its bundle, or both, to a repository of the Hub, in one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from vlkd_hub.bundle import MANIFEST_NAME, Manifest
from vlkd_hub.errors import HubError, VlkdError
from vlkd_hub.hub.card import MARK, model_card
from vlkd_hub.hub.contents import (
    CARD_NAME,
    LINEAGE_NAME,
    Contents,
    bundle_contents,
    stale,
    student_contents,
    without_folders,
)
from vlkd_hub.hub.facts import CardFacts, read_facts
from vlkd_hub.hub.fetch import BUNDLE_FOLDER, explain
from vlkd_hub.hub.names import RepoName, parse_repo

__all__ = ["CardSources", "Pushed", "push"]

MAIN = "main"


@dataclass(frozen=True, kw_only=True)
class CardSources:
    """Files that the card is filled from, besides what is pushed.

    Attributes:
        evaluation: reports of ``vlkd evaluate --json``.
        latency: the report of ``vlkd bench caption --json``.
        metadata: JSON or YAML with front matter (license, language, datasets, base_model, tags), and
            ``data_license`` and ``data_name`` for the page.
    """

    evaluation: tuple[Path, ...] = ()
    latency: Path | None = None
    metadata: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did."""

    url: str
    """Of the commit."""
    commit: str
    sent: list[str]
    deleted: list[str]
    kept_card: bool
    """The repository has a card that somebody else wrote, so no card was sent."""


def push(
    source: Path,
    repo: str,
    *,
    bundle: Path | None = None,
    revision: str | None = None,
    private: bool | None = None,
    message: str | None = None,
    token: str | None = None,
    card: CardSources | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Make ``repo`` hold what is in ``source``, and nothing of an earlier push besides.

    Args:
        source: a saved student, or a bundle.
        repo: ``owner/name``; made when absent.
        bundle: the student's bundle, which then goes into the folder ``bundle/``.
        revision: branch to commit to, made from the main branch when absent; None is the main branch.
        private: visibility of a repository that is made now; None leaves it to the owner's settings.
        message: of the commit.
        token: to write with; None takes the one of ``hf auth login`` or ``HF_TOKEN``.
        card: files that the model card is filled from.
        say: told each stage in a few words.

    Returns:
        What was sent and deleted.

    Raises:
        InvalidInputError: ``source`` is neither, or a name or a file for the card cannot be used.
        BundleError: the bundle is not as it was exported.
        WeightsError: the weights are not well-formed safetensors.
        HubError: the Hub refuses or cannot be reached; nothing is changed there then, or nothing but a new repository
            or branch.
    """
    name = parse_repo(repo, revision)
    contents, facts = _collect(source, bundle)
    facts = _add_sources(facts, card or CardSources())
    contents[CARD_NAME] = str(model_card(name, facts)).encode()
    try:
        return _commit(HfApi(token=token), name, contents, private, message or f"Push {source.name}", say)
    except VlkdError:
        raise
    except Exception as error:  # among them those of the client's HTTP library, whose name differs between versions
        raise HubError(f"{name} cannot be written at {constants.ENDPOINT}: {explain(error)}") from error


def _collect(source: Path, bundle: Path | None) -> tuple[Contents, CardFacts]:
    """The files to send, and what they tell of themselves."""
    if (source / MANIFEST_NAME).is_file():
        contents, manifest = bundle_contents(source)
        return contents, _facts_of_bundle(
            CardFacts(model_type=manifest.model_type, has_student=False), contents, manifest
        )
    contents = student_contents(source)
    lineage = without_folders(read_facts(source / LINEAGE_NAME), everywhere=True) if LINEAGE_NAME in contents else {}
    weights = sum(_size(value) for path, value in contents.items() if path.endswith(".safetensors"))
    model_type = str(read_facts(source / "config.json").get("model_type"))
    facts = CardFacts(model_type=model_type, has_student=True, lineage=lineage, sizes={"weights": weights})
    if bundle is None:
        return contents, facts
    inside, manifest = bundle_contents(bundle, BUNDLE_FOLDER)
    return contents | inside, _facts_of_bundle(facts, inside, manifest)


def _facts_of_bundle(facts: CardFacts, contents: Contents, manifest: Manifest) -> CardFacts:
    named = str(manifest.quantization.get("picture"))
    pictures = [path for path in contents if PurePosixPath(path).name == named]
    return replace(
        facts,
        bundle=manifest,
        evaluation=[manifest.evaluation] if manifest.evaluation else [],
        lineage={**facts.lineage, **without_folders(manifest.lineage, everywhere=True)},
        sizes={**facts.sizes, "bundle": sum(_size(value) for value in contents.values())},
        picture=pictures[0] if pictures else None,
    )


def _add_sources(facts: CardFacts, sources: CardSources) -> CardFacts:
    metadata: dict[str, Any] = read_facts(sources.metadata) if sources.metadata is not None else {}
    words: dict[str, Any] = {key: str(metadata.pop(key)) for key in ("data_license", "data_name") if key in metadata}
    return replace(
        facts,
        evaluation=[*facts.evaluation, *(read_facts(path) for path in sources.evaluation)],
        latency=read_facts(sources.latency) if sources.latency is not None else {},
        metadata=metadata,
        **words,
    )


def _commit(
    api: HfApi, name: RepoName, contents: Contents, private: bool | None, message: str, say: Callable[[str], None]
) -> Pushed:
    say(f"looking at {name}")
    api.create_repo(name.repo_id, private=private, exist_ok=True)
    if name.revision not in (None, MAIN):
        api.create_branch(name.repo_id, branch=str(name.revision), exist_ok=True)
    revision = name.revision or MAIN
    head = api.model_info(name.repo_id, revision=revision).sha
    present = api.list_repo_files(name.repo_id, revision=head)
    kept_card = CARD_NAME in present and not _is_our_card(api, name.repo_id, head)
    if kept_card:
        contents = {path: value for path, value in contents.items() if path != CARD_NAME}
    old = stale(present, contents)
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path, value) for path, value in contents.items()
    ]
    operations += [CommitOperationDelete(path, is_folder=False) for path in old]
    say(f"sending {len(contents)} files")
    # With the parent named, a push of somebody else in between fails this one instead of losing either.
    done = api.create_commit(name.repo_id, operations, commit_message=message, revision=revision, parent_commit=head)
    return Pushed(
        url=str(done.commit_url), commit=done.oid, sent=sorted(contents), deleted=sorted(old), kept_card=kept_card
    )


def _is_our_card(api: HfApi, repo_id: str, revision: str | None) -> bool:
    card = Path(api.hf_hub_download(repo_id, CARD_NAME, revision=revision))
    return MARK in card.read_text(encoding="utf-8", errors="replace")


def _size(value: Path | bytes) -> int:
    return len(value) if isinstance(value, bytes) else value.stat().st_size
