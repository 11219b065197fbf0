"""Load bundles: a student for the index commands, and the parts of one for the server."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.parts import OnnxParts
from vlkd_serving.protocol import Parts, Student

__all__ = ["MATCHING", "SERVED", "LoadedModel", "load_model", "model_source", "named_bundles", "require_matching"]

SERVED = ("image_encoder", "text_encoder", "cross_attention", "decoder")
"""The graphs that a server runs. Others in a bundle are for other uses, and would only take memory."""
MATCHING = ("image_tokens", "text_tokens")
"""Those that it runs too where words are to be matched with patches."""


@dataclass(frozen=True)
class LoadedModel:
    """A student, the identity of its embedding space, and a name for people."""

    student: Student
    fingerprint: str
    name: str


def load_model(bundle: Path, threads: int | None = None, *, match_words: bool = False) -> LoadedModel:
    """Load a bundle's student.

    Args:
        bundle: folder that ``vlkd export`` wrote.
        threads: of one inference; None lets the runtime choose.
        match_words: open the graphs that match words with patches too, where it has them.

    Raises:
        BundleError: not a bundle, incomplete, or changed.
    """
    from vlkd_serving.runtime import OnnxStudent

    graphs = (*SERVED, *MATCHING) if match_words else SERVED
    student = OnnxStudent.from_pretrained(bundle, threads=threads, graphs=graphs)
    return LoadedModel(student, student.manifest.fingerprint, bundle.resolve().name)


def model_source(
    name: str,
    bundle: Path,
    threads: int | None = None,
    *,
    provider: str | None = None,
    at_once: bool = False,
    graphs: Collection[str] | None = None,
) -> ModelSource:
    """A model for the server, read from its bundle, and verified, each time it is loaded.

    Args:
        name: by which requests ask for it.
        bundle: folder that ``vlkd export`` wrote.
        threads: of one inference; None lets the runtime choose.
        provider: where the graphs run, as of :meth:`vlkd_hub.runtime.OnnxStudent.from_pretrained`.
        at_once: load it now, so that a bundle that cannot be used is an error of the caller.
        graphs: open only those of this name; None opens :data:`SERVED`.

    Raises:
        BundleError: as :func:`load_model`.
        MissingDependencyError: the provider is not installed.
        InvalidInputError: there is no such provider, or nothing was measured for this bundle.
    """
    from vlkd_serving.runtime import OnnxStudent

    def load() -> Parts:
        if ahead:
            return ahead.pop()
        return OnnxParts(
            OnnxStudent.from_pretrained(
                bundle,
                threads=threads,
                provider=provider,
                graphs=SERVED if graphs is None else graphs,
            )
        )

    ahead: list[Parts] = []
    if at_once:
        ahead = [load()]
    return ModelSource(name, load, ahead[0].fingerprint if ahead else None)


def require_matching(bundles: Iterable[Path]) -> None:
    """Raises :class:`InvalidInputError` unless one of the bundles can match words with patches."""
    if not any(read_manifest(bundle, verify=False).matching for bundle in bundles):
        raise InvalidInputError(
            "--match-words: no bundle has the graphs for it. Export an S-SMKE student with vlkd export --match-words; "
            "a bundle in fewer bits goes without."
        )


def named_bundles(values: list[str]) -> dict[str, Path]:
    """``["PATH", "name=PATH"]`` -> name -> path; a path without a name goes by its last folder.

    Raises:
        InvalidInputError: a name comes twice or is empty.
    """
    found: dict[str, Path] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or "/" in name:
            name, path = Path(value).absolute().name, value
        if not name or name in found:
            raise InvalidInputError(
                f"Give each --model a name of its own, as name=PATH; {value!r} has none or a used one."
            )
        found[name] = Path(path)
    return found
