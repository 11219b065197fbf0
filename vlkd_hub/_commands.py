"""A command group whose members come from an entry-point group and are imported only when they are typed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from vlkd_hub.errors import MissingDependencyError

__all__ = ["EntryPointGroup", "Verb"]

OWN_PACKAGES = ("vlkd_hub", "vlkd_training", "vlkd_export", "vlkd_serving")


class Verb(NamedTuple):
    """What ``--help`` says of a verb before its module is imported."""

    help: str
    extra: str
    """The extra of this distribution that brings what the verb needs; empty if none does."""


class EntryPointGroup(TyperGroup):
    """Lists the names in an entry-point group; loads one when it is invoked.

    Subclasses set the two class variables. A member is a plain function (one command) or a ``typer.Typer`` (a group).
    A member that ``verbs`` does not know (another distribution may add some) is listed with the name of its module.
    """

    entry_point_group: ClassVar[str]
    verbs: ClassVar[Mapping[str, Verb]]

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names in the order of ``verbs``, then those of other distributions."""
        own = [name for name in self.verbs if name in self.members]
        return own + sorted(self.members.keys() - self.verbs.keys())

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        """A stand-in that carries the one-line help and nothing else; ``resolve_command`` brings the real one."""
        found = self.members.get(cmd_name)
        if found is None:
            return None
        verb = self.verbs.get(cmd_name)
        return TyperCommand(name=cmd_name, help=verb.help if verb else f"From {found.module}.", callback=lambda: None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb typed, import its module and return its command."""
        # Filling `commands` lets the parent suggest the closest name for one that it does not know.
        self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}  # type: ignore[misc]
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None or stand_in is None:
            return name, stand_in, rest
        return name, self.load(name), rest

    @cached_property
    def members(self) -> dict[str, EntryPoint]:
        """Name -> entry point, of every installed distribution."""
        return {point.name: point for point in entry_points(group=self.entry_point_group)}

    def load(self, name: str) -> Any:
        """Import the verb's module and build its command.

        Raises:
            MissingDependencyError: a package that the verb needs is not installed.
        """
        try:
            member = self.members[name].load()
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            verb = self.verbs.get(name)
            if not missing or missing in OWN_PACKAGES or verb is None or not verb.extra:
                raise
            raise MissingDependencyError(
                f"`{name}` needs the package '{missing}', which is not installed. "
                f'Run: pip install "vlkd-hub[{verb.extra}]"'
            ) from error
        if not isinstance(member, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name)(member)
            member = app
        return typer.main.get_command(member)
