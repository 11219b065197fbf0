"""``vlkd doctor`` tells what is missing and the command that brings it."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

import pytest

from vlkd_hub import cli, doctor


def doctored(monkeypatch: pytest.MonkeyPatch, lines: list[str], installed: dict[str, str]) -> dict:
    """What ``examine`` says with these requirements and these packages."""

    def fake_version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "version", fake_version)
    return doctor.examine()


LINES = [
    "numpy>=1.26",
    'torch>=2.9; extra == "models"',
    'vlkd-hub[models]; extra == "train"',
    'torch>=2.9; extra == "train"',
    'torch>=2.9; extra == "all"',
    'ruff>=0.8; extra == "dev"',
]


def test_nothing_missing(monkeypatch) -> None:
    facts = doctored(monkeypatch, LINES, {"numpy": "2.0", "torch": "2.14.0+cpu", "ruff": "0.9"})
    assert [item["package"] for item in facts["packages"] if not item["ok"]] == []
    assert not [line for line in facts["advice"] if "pip install" in line]


def test_missing_and_old_packages_are_named_with_the_command(monkeypatch) -> None:
    """A version too old is as bad as none; a package of several extras is advised once."""
    facts = doctored(monkeypatch, LINES, {"numpy": "1.20"})
    advice = [line for line in facts["advice"] if "pip install" in line]
    assert advice == [
        'numpy: run pip install --upgrade "vlkd-hub"',
        'torch: run pip install --upgrade "vlkd-hub[models]"',
        'ruff: run pip install --upgrade "vlkd-hub[dev]"',
    ]
    torch = next(item for item in facts["packages"] if item["package"] == "torch")
    assert torch == {
        "package": "torch",
        "wanted": ">=2.9",
        "installed": None,
        "ok": False,
        "extras": ["models", "train"],
    }


def test_what_is_for_another_machine_is_not_lacking(monkeypatch) -> None:
    """A laptop without a GPU is whole without TensorRT; the table shows it all the same."""
    facts = doctored(monkeypatch, ['tensorrt>=10; extra == "tensorrt"'], {})
    assert facts["packages"][0]["package"] == "tensorrt"
    assert not [line for line in facts["advice"] if "tensorrt" in line]


def test_advice_for_absent_programs(monkeypatch) -> None:
    """Without Java a score is left out of the evaluation: the person should hear of it here too."""
    monkeypatch.setattr(doctor, "describe_machine", lambda: {"java": None, "chromium": None})
    advice = doctored(monkeypatch, [], {})["advice"]
    assert [line.split(":")[0] for line in advice] == ["Java", "Chromium"]


def test_json_is_all_that_is_printed(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor", "--json"])
    assert stopped.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert {item["package"] for item in facts["packages"]} >= {"numpy", "torch", "onnxruntime", "faiss-cpu"}
    assert next(item for item in facts["packages"] if item["package"] == "numpy")["installed"] == version("numpy")


def test_table_shows_every_package(capsys) -> None:
    doctor.doctor(as_json=False)
    shown = capsys.readouterr().out
    assert "numpy" in shown
    assert "onnxruntime providers" in shown


def test_providers_are_tried_not_listed(capsys, tiny_bundle) -> None:
    """A session is opened with each; what is missing comes with what to install."""
    found = {item["provider"]: item for item in doctor.examine()["providers"]}
    assert found["cpu"]["works"] and found["cpu"]["runs_on"] == ["CPUExecutionProvider"]
    assert found["cpu"]["version"] == version("onnxruntime")
    for item in found.values():
        assert item["works"] or "nstall" in item["error"]
    doctor.doctor(as_json=False, bundle=tiny_bundle)
    shown = capsys.readouterr().out
    assert "Nodes by where they ran, asked for cpu" in shown
    assert "image_encoder" in shown and "decoder" in shown


def test_a_provider_that_lies_is_found_out(monkeypatch) -> None:
    """onnxruntime-gpu lists CUDA on a machine without a GPU, and then gives a session on the CPU."""
    import onnxruntime

    from vlkd_hub.provider_check import check_providers

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers, **_: real(path, options, providers=both[1:])
    )
    found = {item["provider"]: item for item in check_providers()}
    assert not found["cuda"]["works"] and "fell back" in found["cuda"]["error"]
    assert found["cpu"]["works"]


def test_placement_names_every_graph_and_its_operators(tiny_bundle) -> None:
    """On request, for the nodes that a provider leaves to another."""
    from vlkd_hub.errors import InvalidInputError
    from vlkd_hub.provider_check import placement_of

    placed = placement_of(tiny_bundle, "cpu")
    assert set(placed) == {"image_encoder", "text_encoder", "cross_attention", "decoder"}
    assert placed["cross_attention"]["CPUExecutionProvider"]["MatMul"] == 4
    with pytest.raises(InvalidInputError, match="Unknown provider 'gpu'"):
        placement_of(tiny_bundle, "gpu")
