"""``vlkd doctor``: what is installed, what this machine can do, and what to install for what is missing."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlkd_hub._version import __version__
from vlkd_hub.machine import describe_machine
from vlkd_hub.provider_check import check_providers, placement_of

__all__ = ["doctor", "examine"]

DISTRIBUTION = "vlkd-hub"
CORE = ""
ELSEWHERE = {"tensorrt", "optimum"}
"""Extras for other machines or an environment of their own: nothing is lacking where they are not installed."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Show where each node of this bundle runs.")] = None,
    provider: Annotated[str, typer.Option("--provider", help="For --bundle: cpu, cuda, tensorrt, openvino...")] = "cpu",
) -> None:
    """Show what is installed, what this machine can do, and what to install next."""
    facts = examine()
    if bundle is not None:
        facts["placement"] = placement_of(bundle, provider)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    console.print(f"vlkd-hub {facts['version']}", highlight=False)
    console.print(_machine_table(facts))
    console.print(_provider_table(facts["providers"]))
    if bundle is not None:
        console.print(_placement_table(facts["placement"], provider))
    console.print(_package_table(facts["packages"]))
    for line in facts["advice"]:
        console.print(f"[yellow]-[/] {escape(line)}", highlight=False, soft_wrap=True)
    if not facts["advice"]:
        console.print("Everything is installed.", style="green")


def examine() -> dict[str, Any]:
    """All that ``vlkd doctor`` knows: version, machine, providers that really open, packages, advice."""
    packages = [_examine(requirement, extras) for requirement, extras in _requirements()]
    machine = describe_machine()
    return {
        "version": __version__,
        "machine": machine,
        "onnxruntime_providers": _providers(),
        "providers": check_providers(),
        "packages": packages,
        "advice": _advice(packages, machine),
    }


def _requirements() -> list[tuple[Requirement, list[str]]]:
    """Each package once, with the extras that bring it; those that are always installed have no extra."""
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        extra = _extra_of(requirement)
        # "all" is the sum of the others, and an extra may name another one: "vlkd-hub[models]".
        if extra != "all" and requirement.name != DISTRIBUTION:
            _, extras = found.setdefault(requirement.name, (requirement, []))
            extras += [extra] if extra else []
    return list(found.values())


def _extra_of(requirement: Requirement) -> str:
    marker = str(requirement.marker or "")
    _, found, rest = marker.partition("extra == ")
    return rest.split()[0].strip("\"')") if found else CORE


def _examine(requirement: Requirement, extras: list[str]) -> dict[str, Any]:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        installed = None
    fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    wanted = str(requirement.specifier)
    return {"package": requirement.name, "wanted": wanted, "installed": installed, "ok": fits, "extras": extras}


def _providers() -> list[str] | None:
    """Execution providers that onnxruntime lists here, which says little; None without onnxruntime."""
    try:
        return list(importlib.import_module("onnxruntime").get_available_providers())
    except ImportError:
        return None


def _advice(packages: list[dict[str, Any]], machine: dict[str, Any]) -> list[str]:
    lacking: dict[str, list[str]] = {}
    for item in packages:
        if not item["ok"] and not (item["extras"] and set(item["extras"]) <= ELSEWHERE):
            extra = next((name for name in item["extras"] if name != "dev"), (item["extras"] or [CORE])[0])
            lacking.setdefault(extra, []).append(item["package"])
    lines = []
    for extra, names in lacking.items():
        target = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
        lines.append(f'{", ".join(names)}: run pip install --upgrade "{target}"')
    if machine["java"] is None:
        lines.append(
            "Java: METEOR is left out of `vlkd evaluate` without it; on Debian, apt-get install default-jre-headless"
        )
    if machine["chromium"] is None:
        lines.append("Chromium: the browser tests are skipped without it; on Debian, apt-get install chromium")
    return lines


def _machine_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Machine", title_justify="left", show_header=False)
    rows = {**facts["machine"], "onnxruntime_providers": facts["onnxruntime_providers"]}
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), escape(_words(value)))
    return table


def _provider_table(providers: list[dict[str, Any]]) -> Table:
    table = Table(title="Providers (a session was opened with each)", title_justify="left")
    for name in ("provider", "works", "version", "what it says"):
        table.add_column(name)
    for item in providers:
        color = "green" if item["works"] else "red"
        words = item["runs_on"] if item["works"] else item["error"]
        shown = f"[{color}]{'yes' if item['works'] else 'no'}[/]"
        table.add_row(item["provider"], shown, item["version"] or "-", escape(_words(words)))
    return table


def _placement_table(placement: dict[str, dict[str, dict[str, int]]], provider: str) -> Table:
    table = Table(title=f"Nodes by where they ran, asked for {provider}", title_justify="left")
    for name in ("graph", "where", "nodes", "operators"):
        table.add_column(name)
    for graph, places in placement.items():
        for place, counts in places.items():
            words = ", ".join(f"{name} {count}" for name, count in counts.items())
            table.add_row(graph, escape(place), str(sum(counts.values())), escape(words))
    return table


def _package_table(packages: list[dict[str, Any]]) -> Table:
    table = Table(title="Packages", title_justify="left")
    for name in ("package", "wanted", "installed", "extras that bring it"):
        table.add_column(name)
    for item in packages:
        color = "green" if item["ok"] else "red"
        shown = f"[{color}]{item['installed'] or 'no'}[/]"
        extras = [name for name in item["extras"] if name != "dev"] or item["extras"]
        table.add_row(item["package"], item["wanted"], shown, " ".join(extras) or "(always)")
    return table


def _words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)
