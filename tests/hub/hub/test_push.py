"""One commit that leaves the repository as the source is, through the real client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from vlkd_hub.errors import HubError, InvalidInputError
from vlkd_hub.hub.card import MARK
from vlkd_hub.hub.push import CardSources, push

from .hub_server import HubServer
from .small import CODE, write_bundle, write_student


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return write_student(tmp_path / "student")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_student_goes_up_in_one_commit(hub: HubServer, student: Path) -> None:
    done = push(student, "me/shapes")
    files = hub.store.files("me/shapes")
    for name in ("model.safetensors", "tokenizer.json", *CODE):
        assert files[name] == (student / name).read_bytes()
    assert set(files) == {*done.sent, ".gitattributes"}
    assert hub.store.repos["me/shapes"].messages == ["initial commit", "Push student"]
    assert done.commit == hub.store.repos["me/shapes"].branches["main"]
    assert done.url.endswith(f"/me/shapes/commit/{done.commit}")


def test_the_calls_are_those_of_the_protocol(hub: HubServer, student: Path) -> None:
    """Weights go as a large file: batch, PUT, verify; the rest rides in the commit."""
    push(student, "me/shapes")
    asked = [f"{method} {path}" for method, path in hub.asked]
    for call in (
        "POST /api/repos/create",
        "POST /api/validate-yaml",
        "POST /api/models/me/shapes/preupload/main",
        "POST /me/shapes.git/info/lfs/objects/batch",
        "POST /lfs/verify",
        "POST /api/models/me/shapes/commit/main",
    ):
        assert asked.count(call) == 1, call
    assert sum(call.startswith("PUT /lfs/") for call in asked) == 1


def test_a_student_with_its_bundle(hub: HubServer, student: Path, bundle: Path) -> None:
    done = push(student, "me/shapes", bundle=bundle)
    files = hub.store.files("me/shapes")
    assert files["bundle/onnx/decoder.onnx"] == (bundle / "onnx/decoder.onnx").read_bytes()
    assert files["bundle/manifest.json"] == (bundle / "manifest.json").read_bytes()
    card = files["README.md"].decode()
    assert "TorchStudent" not in card and "AutoModelForImageTextToText" in card and "OnnxStudent" in card
    assert "| teacher | clip |" in card and "/data/teachers" not in card
    assert f"size of the weights | {len((student / 'model.safetensors').read_bytes()) / 1e6:.1f} MB" in card
    assert not done.deleted


def test_stale_files_go_in_the_same_commit(hub: HubServer, student: Path, bundle: Path) -> None:
    """A sharded student becomes one file, its bundle goes: readers must never see half of each."""
    (student / "model-00002-of-00002.safetensors").write_bytes((student / "model.safetensors").read_bytes())
    push(student, "me/shapes", bundle=bundle)
    api = HfApi()
    api.create_commit("me/shapes", [CommitOperationAdd("pictures/mine.png", b"mine")], commit_message="mine")
    (student / "model-00002-of-00002.safetensors").unlink()
    commits = len(hub.store.repos["me/shapes"].messages)
    done = push(student, "me/shapes")
    assert len(hub.store.repos["me/shapes"].messages) == commits + 1
    assert "model-00002-of-00002.safetensors" in done.deleted
    assert "bundle/onnx/decoder.onnx" in done.deleted
    files = hub.store.files("me/shapes")
    assert files["pictures/mine.png"] == b"mine"
    assert not any(name.startswith("bundle/") for name in files)


def test_the_same_again_changes_nothing(hub: HubServer, student: Path) -> None:
    first = push(student, "me/shapes")
    assert push(student, "me/shapes").commit == first.commit


def test_a_branch_is_made_and_main_stays(hub: HubServer, student: Path, bundle: Path) -> None:
    push(student, "me/shapes")
    push(bundle, "me/shapes", revision="dev/onnx")
    assert "onnx/decoder.onnx" in hub.store.files("me/shapes", "dev/onnx")
    assert "onnx/decoder.onnx" not in hub.store.files("me/shapes")
    push(bundle, "me/shapes@dev/onnx", message="again")


@pytest.mark.parametrize("private", [True, False])
def test_visibility_and_message(hub: HubServer, student: Path, private: bool) -> None:
    push(student, "me/shapes", private=private, message="First one")
    assert hub.store.repos["me/shapes"].private is private
    assert hub.store.repos["me/shapes"].messages[-1] == "First one"


def test_the_card_is_filled_from_reports(hub: HubServer, student: Path, tmp_path: Path) -> None:
    report = {"data": "scenes", "splits": {"test": {"vqa": {"accuracy": 0.5, "baseline": 0.25}}}}
    (tmp_path / "e.json").write_text(json.dumps(report))
    (tmp_path / "l.json").write_text(json.dumps({"torch_ms": 12.0}))
    (tmp_path / "c.yaml").write_text("license: mit\ndata_license: Drawn.\ndata_name: Scenes\n")
    sources = CardSources(evaluation=(tmp_path / "e.json",), latency=tmp_path / "l.json", metadata=tmp_path / "c.yaml")
    push(student, "me/shapes", card=sources)
    card = hub.store.files("me/shapes")["README.md"].decode()
    for words in ("license: mit", "Drawn.", "| Scenes, test | VQA accuracy | 50.0 % | 25.0 % |", "| torch, milli"):
        assert words in card


def test_the_quantizations_picture_is_on_the_card(hub: HubServer, student: Path, tmp_path: Path) -> None:
    """The manifest names it; an evaluation noted there is on the card too."""
    folder = tmp_path / "int8"
    folder.mkdir()
    (folder / "quantization.svg").write_text("<svg/>")
    report = {"data": "scenes", "splits": {"test": {"caption": {"cider": 1.5}}}}
    write_bundle(folder, precision="int8", quantization={"picture": "quantization.svg"}, evaluation=report)
    push(student, "me/shapes", bundle=folder)
    files = hub.store.files("me/shapes")
    assert files["bundle/quantization.svg"] == b"<svg/>"
    card = files["README.md"].decode()
    assert "](bundle/quantization.svg)" in card
    assert "| scenes, test | CIDEr | 1.500 |" in card


def test_a_card_written_by_hand_is_kept(hub: HubServer, student: Path) -> None:
    """Hours of somebody's work must not go with the next upload."""
    push(student, "me/shapes")
    ours = hub.store.files("me/shapes")["README.md"]
    assert not push(student, "me/shapes", message="again").kept_card
    edited = ours.replace(MARK.encode(), b"Mine now.")
    HfApi().create_commit("me/shapes", [CommitOperationAdd("README.md", edited)], commit_message="my words")
    assert push(student, "me/shapes", message="again").kept_card
    assert hub.store.files("me/shapes")["README.md"] == edited


def test_a_commit_in_between_fails_the_push(hub: HubServer, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two people's pushes would mix: what to delete was decided on another state."""
    push(student, "me/shapes")
    (student / "tokenizer.json").write_text('{"new": 1}')
    listed = HfApi.list_repo_files

    def with_somebody_else(api: HfApi, *args: object, **kwargs: object) -> list[str]:
        hub.store.repos["me/shapes"].add_commit("main", {}, "somebody else")
        return listed(api, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(HfApi, "list_repo_files", with_somebody_else)
    with pytest.raises(HubError, match="me/shapes cannot be written.*412"):
        push(student, "me/shapes")
    assert hub.store.repos["me/shapes"].messages[-1] == "somebody else"


def test_without_a_right_to_write(hub: HubServer, student: Path) -> None:
    with pytest.raises(HubError, match="me/shapes cannot be written.*401"):
        push(student, "me/shapes", token="hf_wrong")
    assert not hub.store.repos


def test_with_no_server(hub: HubServer, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="me/shapes cannot be written at http://127.0.0.1:9"):
        push(student, "me/shapes")


def test_offline(hub: HubServer, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="offline mode is enabled"):
        push(student, "me/shapes")


def test_a_wrong_name(student: Path) -> None:
    with pytest.raises(InvalidInputError, match="is no name of a repository"):
        push(student, "shapes")
