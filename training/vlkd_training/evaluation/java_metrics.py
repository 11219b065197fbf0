"""METEOR and SPICE, which run in Java; where one cannot run, its score is None and the reason is a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vlkd_hub._optional import require
from vlkd_training.evaluation.tokenizer import has_java

__all__ = ["meteor_score", "spice_score"]

Captions = Mapping[str, list[str]]
Scored = tuple[float | None, str | None]
"""(score, None), or (None, why not)."""

_SPICE_MODELS = "stanford-corenlp-3.6.0-models.jar"


def meteor_score(references: Captions, candidates: Captions) -> Scored:
    """METEOR 1.5 over tokenized captions.

    Args:
        references: id -> reference captions.
        candidates: id -> a list of one caption.

    Returns:
        The score, or None and the reason.
    """
    if not has_java():
        return None, "METEOR runs in Java, and no 'java' is on the PATH (Debian, Ubuntu: default-jre-headless)"
    package = require("pycocoevalcap.meteor.meteor", "train")
    try:
        scorer = package.Meteor()
        try:
            score, _ = scorer.compute_score(dict(references), dict(candidates))
        finally:
            _close(scorer)
    except (OSError, ValueError) as error:
        return None, f"METEOR's Java process failed: {error}"
    return float(score), None


def spice_score(references: Captions, candidates: Captions) -> Scored:
    """SPICE, where its language models lie beside the jar: they come from the network, and are never fetched here.

    Args:
        references: id -> reference captions.
        candidates: id -> a list of one caption.

    Returns:
        The score, or None and the reason.
    """
    if not has_java():
        return None, "SPICE runs in Java, and no 'java' is on the PATH"
    package = require("pycocoevalcap.spice.spice", "train")
    models = Path(package.__file__ or "").parent / "lib" / _SPICE_MODELS
    if not models.is_file():
        return None, (
            f"SPICE needs {_SPICE_MODELS} (Stanford CoreNLP 3.6.0), which pycocoevalcap downloads at first use; "
            "it is not here: run pycocoevalcap.spice.get_stanford_models once with a network"
        )
    try:
        score, _ = package.Spice().compute_score(dict(references), dict(candidates))
    except (OSError, ValueError, package.subprocess.CalledProcessError) as error:
        return None, f"SPICE's Java process failed: {error}"
    return float(score), None


def _close(scorer: object) -> None:
    """End METEOR's process, close its pipes, and free the lock that an error leaves held: its __del__ waits for it."""
    process, lock = scorer.meteor_p, scorer.lock  # type: ignore[attr-defined]
    if lock.locked():
        lock.release()
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):  # what was not yet written has no reader
            pipe.close()
