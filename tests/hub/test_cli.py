"""The command line as a person meets it: fast help, clear errors, no traceback for a mistake of theirs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from importlib.metadata import EntryPoint, entry_points

import pytest

from vlkd_hub import __version__, _commands, cli
from vlkd_hub.errors import MissingDependencyError


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vlkd_hub.cli", *args], capture_output=True, text=True, timeout=60)


def point_to(monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Make the group see only these entry points: verb -> "module:object"."""
    points = [EntryPoint(name, value, "vlkd.commands") for name, value in modules.items()]
    monkeypatch.setattr(_commands, "entry_points", lambda group: points)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that tests import as ``made_up_verbs``."""

    def write(source: str) -> None:
        (tmp_path / "made_up_verbs.py").write_text("from __future__ import annotations\n" + textwrap.dedent(source))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "made_up_verbs", raising=False)

    return write


def test_help_lists_every_verb_fast_and_without_torch() -> None:
    """`--help` must not import a verb: importing torch alone takes seconds."""
    program = "import sys; sys.argv = ['vlkd', '--help']\nfrom vlkd_hub.cli import main\n" + textwrap.dedent(
        """
        try:
            main()
        finally:
            heavy = {"torch", "transformers", "onnxruntime", "faiss", "numpy", "PIL"} & sys.modules.keys()
            print("HEAVY", sorted(heavy))
        """
    )
    best = 60.0
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        best = min(best, time.monotonic() - start)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.VERBS)
    assert "HEAVY []" in done.stdout
    assert best < 1.0  # about 0.2 s on an idle machine


def test_every_verb_has_an_entry_point_and_help() -> None:
    """A verb in one list and not in the other would be shown and fail, or work and never be shown."""
    assert set(cli.VERBS) == {point.name for point in entry_points(group="vlkd.commands")}


@pytest.mark.parametrize("point", entry_points(group="vlkd.commands"), ids=lambda point: point.name)
def test_every_verb_loads(point: EntryPoint) -> None:
    """An entry point to a module that is not there fails only when somebody types it."""
    assert callable(point.load())


def test_version() -> None:
    assert run("--version").stdout.strip() == f"vlkd-hub {__version__}"


def test_unknown_verb_suggests_the_closest() -> None:
    done = run("evalute")
    assert done.returncode == 2
    assert "Did you mean 'evaluate'" in done.stderr
    assert "Traceback" not in done.stderr


def test_user_error_is_one_line_and_exit_code_2(module, monkeypatch, capsys) -> None:
    """A mistake of the user's shows what to do, not our call stack; a bug of ours must keep its traceback."""
    module("""
        from vlkd_hub.errors import DataError
        def wrong() -> None:
            raise DataError("no pictures in here\\ngive another folder [with some]")
        def bug() -> None:
            raise KeyError("ours")
    """)
    point_to(monkeypatch, wrong="made_up_verbs:wrong", bug="made_up_verbs:bug")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["wrong"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no pictures in here give another folder [with some]\n"
    with pytest.raises(KeyError):
        cli.main(["bug"])


def test_a_function_and_a_group_are_both_verbs(module, monkeypatch, capsys) -> None:
    """Both kinds of entry point run, with their own options."""
    module("""
        import typer
        def plain(count: int = 1) -> None:
            print("plain", count)
        app = typer.Typer()
        @app.command()
        def build() -> None:
            print("built")
        @app.command()
        def search() -> None:
            print("searched")
    """)
    point_to(monkeypatch, plain="made_up_verbs:plain", many="made_up_verbs:app")
    for line, said in ((["plain", "--count", "3"], "plain 3\n"), (["many", "search"], "searched\n")):
        with pytest.raises(SystemExit) as stopped:
            cli.main(line)
        assert stopped.value.code == 0
        assert capsys.readouterr().out == said


def test_missing_package_names_the_extra(module, monkeypatch) -> None:
    """A verb whose packages are not installed says which extra to install; a missing module of ours is a bug."""
    module("import a_package_nobody_has")
    point_to(monkeypatch, export="made_up_verbs:run")
    with pytest.raises(MissingDependencyError, match=r'a_package_nobody_has.*pip install "vlkd-hub\[export\]"'):
        cli.RootGroup().load("export")
    point_to(monkeypatch, export="vlkd_hub.no_such_module:run")
    with pytest.raises(ModuleNotFoundError) as bug:
        cli.RootGroup().load("export")
    assert not isinstance(bug.value, MissingDependencyError)


def test_verbs_of_other_distributions_are_listed(monkeypatch, capsys) -> None:
    """Somebody else may add a verb; it is shown with where it comes from, after ours."""
    point_to(monkeypatch, zebra="somebody.elses:verb", doctor="vlkd_hub.doctor:doctor")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert "From somebody.elses." in shown
    assert shown.index("doctor") < shown.index("zebra")


def test_bench_is_a_group_of_its_own_entry_points() -> None:
    done = run("bench", "--help")
    assert done.returncode == 0
    assert "caption" in done.stdout
