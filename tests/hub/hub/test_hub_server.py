"""The test server answers as the Hub does where a wrong answer would make the other tests prove nothing."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from .hub_server import HubServer


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    made = HfApi()
    made.create_repo("me/a")
    files = [CommitOperationAdd("small.txt", b"small"), CommitOperationAdd("large.bin", bytes(range(256)) * 40)]
    made.create_commit("me/a", files, commit_message="two")
    return made


@pytest.mark.parametrize(("name", "large"), [("small.txt", False), ("large.bin", True)])
def test_headers_that_the_cache_relies_on(hub: HubServer, api: HfApi, name: str, large: bool) -> None:
    found = get_hf_file_metadata(hf_hub_url("me/a", name))
    assert found.commit_hash == api.model_info("me/a").sha
    assert len(found.etag or "") == (64 if large else 40)
    assert found.size == len(hub.store.files("me/a")[name])
    assert ("/lfs/" in found.location) == large


def test_a_download_goes_on_where_it_broke(hub: HubServer, api: HfApi) -> None:
    content = hub.store.files("me/a")["large.bin"]
    request = urllib.request.Request(f"{hub.url}/me/a/resolve/main/large.bin", headers={"Range": "bytes=100-"})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read()) == (206, content[100:])
    request.add_header("Range", f"bytes={len(content)}-")
    with pytest.raises(urllib.error.HTTPError, match="416"):
        urllib.request.urlopen(request)


def test_the_tree_tells_large_files(api: HfApi) -> None:
    entries = {entry.path: entry for entry in api.list_repo_tree("me/a", recursive=True)}
    assert entries["large.bin"].lfs is not None and entries["large.bin"].lfs.size == 10240
    assert entries["small.txt"].lfs is None


def test_errors_carry_the_hubs_codes(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("me/none")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("me/a", "none.txt")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("me/a")


def test_a_commit_is_all_or_nothing(hub: HubServer, api: HfApi) -> None:
    before = hub.store.files("me/a")
    operations = [CommitOperationAdd("new.txt", b"new"), CommitOperationDelete("none.txt", is_folder=False)]
    with pytest.raises(HfHubHTTPError):
        api.create_commit("me/a", operations, commit_message="half")
    assert hub.store.files("me/a") == before
