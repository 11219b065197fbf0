"""A repository's name opens as a folder does: checked, as plain files, and from the cache when offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError, HubError, WeightsError
from vlkd_hub.hub.fetch import pull
from vlkd_hub.hub.folders import bundle_folder, student_folder
from vlkd_hub.hub.push import push

from .hub_server import HubServer
from .small import write_bundle, write_student


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return write_student(tmp_path / "student")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def add(repo: str, name: str, content: bytes) -> None:
    HfApi().create_commit(repo, [CommitOperationAdd(name, content)], commit_message=f"add {name}")


def plain(folder: Path) -> bool:
    return all(path.is_file() and not path.is_symlink() for path in folder.rglob("*") if not path.is_dir())


def test_a_folder_is_itself(student: Path, bundle: Path) -> None:
    assert student_folder(student) == student
    assert bundle_folder(str(bundle)) == bundle
    assert student_folder("not/there/at/all") == Path("not/there/at/all")


def test_a_student_comes_back(hub: HubServer, student: Path, bundle: Path) -> None:
    """Without the bundle: somebody who trains on does not need the graphs."""
    push(student, "me/shapes", bundle=bundle)
    folder = student_folder("me/shapes")
    assert (folder / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    assert (folder / "modeling_vlkd.py").read_bytes() == (student / "modeling_vlkd.py").read_bytes()
    assert not (folder / "bundle").exists()


@pytest.mark.parametrize("with_student", [True, False])
def test_a_bundle_comes_back_as_plain_files(hub: HubServer, student: Path, bundle: Path, with_student: bool) -> None:
    """The shared cache keeps links, and a bundle must not have any."""
    if with_student:
        push(student, "me/shapes", bundle=bundle)
    else:
        push(bundle, "me/shapes")
    folder = bundle_folder("me/shapes")
    assert read_manifest(folder) == read_manifest(bundle)
    assert plain(folder)
    assert not any(folder.parent.rglob("*.safetensors"))
    assert bundle_folder("me/shapes") == folder


def test_where_there_are_no_hard_links(hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(bundle, "me/shapes")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("not on this file system")))
    assert read_manifest(bundle_folder("me/shapes")) == read_manifest(bundle)


def test_revisions(hub: HubServer, student: Path) -> None:
    """A branch, a commit, and the two ways to say it."""
    first = push(student, "me/shapes").commit
    (student / "tokenizer.json").write_text('{"second": 2}')
    push(student, "me/shapes", revision="v2")
    assert (student_folder("me/shapes") / "tokenizer.json").read_text() == "{}"
    for second in (student_folder("me/shapes@v2"), student_folder("me/shapes", "v2")):
        assert (second / "tokenizer.json").read_text() == '{"second": 2}'
    assert student_folder(f"me/shapes@{first}") == student_folder("me/shapes")
    with pytest.raises(HubError, match="me/shapes@v3 cannot be fetched.*no such revision"):
        student_folder("me/shapes@v3")


def test_offline_from_the_cache(hub: HubServer, student: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one request is made, and what was never fetched is told in words."""
    push(student, "me/shapes", bundle=bundle)
    online = student_folder("me/shapes"), bundle_folder("me/shapes@main")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (student_folder("me/shapes"), bundle_folder("me/shapes")) == online
    with pytest.raises(HubError, match="me/other cannot be fetched.*HF_HUB_OFFLINE=1"):
        student_folder("me/other")
    assert hub.asked == []


def test_pickles_are_not_even_fetched(hub: HubServer, student: Path) -> None:
    push(student, "me/shapes")
    for name in ("pytorch_model.bin", "optimizer.pt", "rng_state.pth", "data.pkl"):
        add("me/shapes", name, b"\x80\x04.")
    hub.asked.clear()
    folder = student_folder("me/shapes")
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".py", ".md", ""}
    assert not any(path.endswith((".bin", ".pt", ".pth", ".pkl")) for _, path in hub.asked)


def test_a_repository_of_pickles_holds_no_student(hub: HubServer, student: Path) -> None:
    push(student, "me/shapes")
    api = HfApi()
    api.delete_file("model.safetensors", "me/shapes")
    add("me/shapes", "pytorch_model.bin", b"\x80\x04.")
    with pytest.raises(WeightsError, match="holds no weights in safetensors"):
        student_folder("me/shapes")


def test_corrupt_weights_are_refused(hub: HubServer, student: Path) -> None:
    push(student, "me/shapes")
    add("me/shapes", "model.safetensors", b"\xff" * 64)
    with pytest.raises(WeightsError, match="model.safetensors is not a well-formed safetensors file"):
        student_folder("me/shapes")


def test_what_is_not_there(hub: HubServer, student: Path, bundle: Path) -> None:
    with pytest.raises(HubError, match="me/nothing cannot be fetched.*no such repository .nor a folder here"):
        student_folder("me/nothing")
    push(student, "me/student")
    with pytest.raises(HubError, match="me/student holds no bundle: there is no manifest.json"):
        bundle_folder("me/student")
    push(bundle, "me/bundle")
    api = HfApi()
    api.delete_file("config.json", "me/bundle")
    with pytest.raises(HubError, match="me/bundle holds no student for torch"):
        student_folder("me/bundle")


def test_a_private_repository_without_a_token(hub: HubServer, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(student, "me/shapes", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="or it is private. To log in: hf auth login"):
        student_folder("me/shapes")


def test_pull_copies_everything_but_pickles(hub: HubServer, student: Path, bundle: Path, tmp_path: Path) -> None:
    push(student, "me/shapes", bundle=bundle)
    add("me/shapes", "pytorch_model.bin", b"\x80\x04.")
    copy = pull("me/shapes", tmp_path / "copy")
    expected = set(hub.store.files("me/shapes")) - {"pytorch_model.bin"}
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == expected
    assert plain(copy)
    assert all(path.stat().st_nlink == 1 for path in copy.rglob("*") if path.is_file())
    with pytest.raises(BundleError, match="exists; it is left alone"):
        pull("me/shapes", copy)
