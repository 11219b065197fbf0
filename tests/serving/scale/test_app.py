"""The application as Ray Serve sees it, and the config file that deploys it; no cluster is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_serving.index import SpaceError
from vlkd_serving.scale import app as module
from vlkd_serving.scale import build_app
from vlkd_serving.scale.settings import ScaleSettings

# Of pydantic, when ray.serve is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on:DeprecationWarning")


class FakeServe:
    """``ray.serve`` as far as building goes: keeps the options of each deployment and what is bound to it."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {}

    def ingress(self) -> Any:
        return lambda kind: kind

    def deployment(self, kind: type, name: str, **options: Any) -> Any:
        serve = self

        class Deployment:
            def bind(self, *args: Any) -> str:
                serve.made[name] = ({"kind": kind.__name__, **options}, args)
                return name

        return Deployment()


@pytest.fixture
def fake_serve(monkeypatch: pytest.MonkeyPatch) -> FakeServe:
    """Instead of ray, so that these run without the extra."""
    fake = FakeServe()
    monkeypatch.setattr(module, "require", lambda name, extra: fake)
    return fake


@pytest.fixture
def own_shards(tmp_path: Path, tiny_bundle: Path) -> list[Path]:
    """Two shards of the tiny student."""
    import numpy as np

    from vlkd_hub.bundle import read_manifest
    from vlkd_serving.index import IndexWriter, Item

    shards = [tmp_path / "i0", tmp_path / "i1"]
    for number, shard in enumerate(shards):
        with IndexWriter(shard, read_manifest(tiny_bundle).fingerprint) as writer:
            writer.build([Item(id=f"item-{number}")], np.ones((1, 8), np.float32), None)
    return shards


def test_deployments(fake_serve: FakeServe, tiny_bundle: Path, own_shards: list[Path]) -> None:
    """One of each part, one a shard, wired to each other; ranges are scaled by load, numbers are not."""
    build_app({"model": str(tiny_bundle), "shards": list(map(str, own_shards)), "encoders": "2:5", "decoders": 3})
    made = fake_serve.made
    assert list(made) == ["encoder", "decoder", "index-0", "index-1", "ingress"]
    assert made["encoder"][0]["autoscaling_config"]["max_replicas"] == 5 and made["decoder"][0]["num_replicas"] == 3
    assert made["decoder"][1][1] == "encoder" and made["ingress"][1][1:] == (
        "encoder",
        "decoder",
        ["index-0", "index-1"],
    )
    assert made["index-1"][1][1] == str(own_shards[1])
    limits = ScaleSettings(model="b").server
    assert made["ingress"][0]["max_ongoing_requests"] > limits.max_inflight
    assert made["encoder"][0]["max_ongoing_requests"] >= 2 * limits.max_batch
    assert made["decoder"][0]["max_ongoing_requests"] >= 2 * limits.max_texts
    assert {options["graceful_shutdown_timeout_s"] for options, _ in made.values()} == {limits.drain_s}


def test_mistakes_are_told_before_anything_starts(
    fake_serve: FakeServe, tiny_bundle: Path, random_shards: list[Path], tmp_path: Path
) -> None:
    """No bundle, no index, an index of another model."""
    with pytest.raises(BundleError, match=r"manifest\.json"):
        build_app({"model": str(tmp_path)})
    with pytest.raises(BundleError, match="no index in.*vlkd index split"):
        build_app({"model": str(tiny_bundle), "shards": str(tmp_path)})
    with pytest.raises(SpaceError, match="another model"):
        build_app({"model": str(tiny_bundle), "shards": [str(random_shards[0])]})
    assert fake_serve.made == {}


def test_without_ray(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    """The one line that helps."""
    import importlib

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="ray")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "vlkd-hub\[scale\]"'):
        build_app({"model": str(tiny_bundle)})


def test_a_bundle_that_cannot_match_words_is_told_before_anything_starts(
    fake_serve: FakeServe, tiny_bundle: Path, smke_bundle: Path
) -> None:
    with pytest.raises(InvalidInputError, match="no bundle has the graphs for it"):
        build_app({"model": str(tiny_bundle), "match_words": True})
    assert not fake_serve.made
    build_app({"model": str(smke_bundle), "match_words": True})
    assert fake_serve.made["encoder"][1][0].match_words


def test_the_config_file(
    repo_root: Path, fake_serve: FakeServe, tiny_bundle: Path, own_shards: list[Path], tmp_path: Path
) -> None:
    """Its arguments are ours, its deployments exist, and every one of the parts is scaled by load."""
    config = yaml.safe_load((repo_root / "serving" / "deploy" / "ray" / "serve.yaml").read_text())
    (application,) = config["applications"]
    assert application["import_path"] == f"{build_app.__module__.rsplit('.', 1)[0]}:{build_app.__name__}"
    assert len(application["args"]["shards"]) == 4
    keys = tmp_path / "keys"
    keys.write_text("")
    here = {"model": str(tiny_bundle), "shards": list(map(str, own_shards))}
    build_app({**application["args"], **here})
    scaled = {each["name"]: each["autoscaling_config"] for each in application["deployments"]}
    assert set(scaled) == {"ingress", "encoder", "decoder"} <= set(fake_serve.made)
    assert "autoscaling_config" in fake_serve.made["index-0"][0]
    settings: ScaleSettings = fake_serve.made["ingress"][1][0]
    assert scaled["ingress"]["target_ongoing_requests"] <= settings.server.max_inflight


def test_ray_takes_the_config_file(repo_root: Path) -> None:
    """Read by Ray's own schema: a misspelt key would only be found on the cluster."""
    schema = pytest.importorskip("ray.serve.schema", reason="needs the extra: scale")
    config = yaml.safe_load((repo_root / "serving" / "deploy" / "ray" / "serve.yaml").read_text())
    parsed = schema.ServeDeploySchema.model_validate(config)
    assert parsed.applications[0].deployments[0].autoscaling_config["max_replicas"] == 8
