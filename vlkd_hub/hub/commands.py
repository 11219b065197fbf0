"""``vlkd push`` and ``vlkd pull``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["pull", "push"]


def push(
    source: Annotated[
        Path, typer.Argument(help="Folder of a saved student, or of a bundle.", metavar="MODEL_OR_BUNDLE")
    ],
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; made when absent.", metavar="REPO")],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="The student's bundle, sent along into the folder bundle/.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch; made when absent.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility of a repository that is made now.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="To write with; default: the one of hf auth login.", envvar="HF_TOKEN")
    ] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option("--evaluation", help="Report of vlkd evaluate --json; may come several times.")
    ] = None,
    latency: Annotated[Path | None, typer.Option("--latency", help="Report of vlkd bench caption --json.")] = None,
    card_data: Annotated[
        Path | None,
        typer.Option("--card-data", help="JSON or YAML: license, language, datasets, data_license, tags."),
    ] = None,
) -> None:
    """Send a student, its bundle, or both to the Hub, with a model card, in one commit.

    Files of an earlier push that are not part of this one are deleted in the same commit; other files stay.
    """
    from vlkd_hub.hub.push import CardSources
    from vlkd_hub.hub.push import push as send

    sources = CardSources(evaluation=tuple(evaluation or ()), latency=latency, metadata=card_data)
    with Console(stderr=True).status("reading the files") as status:
        done = send(
            source,
            repo,
            bundle=bundle,
            revision=revision,
            private=private,
            message=message,
            token=token,
            card=sources,
            say=status.update,
        )
    typer.echo(f"{len(done.sent)} files in {done.url}")
    if done.deleted:
        typer.echo(f"deleted, from an earlier push: {', '.join(done.deleted)}")
    if done.kept_card:
        words = "README.md was written by hand and is left as it is; delete it there to get a new card."
        typer.secho(words, fg=typer.colors.YELLOW, err=True)


def pull(
    repo: Annotated[str, typer.Argument(help="owner/name, or owner/name@revision.", metavar="REPO")],
    folder: Annotated[Path, typer.Argument(help="Where it goes; must not be there yet.", metavar="FOLDER")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit.")] = None,
) -> None:
    """Copy a student or a bundle from the Hub to a folder, as plain files.

    Weights are checked; files that may hold a pickle are left out. Nothing of it is run.
    """
    from vlkd_hub.bundle import MANIFEST_NAME, read_manifest
    from vlkd_hub.hub.fetch import BUNDLE_FOLDER
    from vlkd_hub.hub.fetch import pull as copy

    copy(repo, folder, revision)
    for part in (folder, folder / BUNDLE_FOLDER):
        if (part / MANIFEST_NAME).is_file():
            typer.echo(f"{part}: {len(read_manifest(part).files)} files as exported")
    typer.echo(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")
