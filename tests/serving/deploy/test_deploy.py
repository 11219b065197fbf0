"""The files for deployment: they parse, and what they name exists in this server."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from vlkd_serving.metrics import Metrics
from vlkd_serving.security.access import HEALTH_PATHS
from vlkd_serving.settings import ServerSettings


@pytest.fixture(scope="module")
def deploy(repo_root: Path) -> Path:
    """The folder."""
    return repo_root / "serving" / "deploy"


@pytest.fixture(scope="module")
def serve_options() -> str:
    """What `vlkd serve --help` says."""
    from vlkd_hub.cli import app

    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def test_the_dashboard_asks_for_metrics_that_exist(deploy: Path) -> None:
    """Every name and label in its queries, and every metric of the server is on it."""
    dashboard = json.loads((deploy / "grafana" / "vlkd.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    families = {family.name: family for family in Metrics().registry.collect()}
    known = set(families) | {f"{name}_total" for name in families}
    known |= {f"{name}_{end}" for name in families for end in ("bucket", "count", "sum")}
    asked = {name for query in queries for name in re.findall(r"vlkd_\w+", query)}
    assert asked <= known, asked - known
    shown = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in asked}
    assert shown == set(families), set(families) ^ shown
    labels = {each for query in queries for group in re.findall(r"by \(([^)]*)\)", query) for each in group.split(", ")}
    assert labels <= {"le", "route", "code", "reason", "part", "result"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_kubernetes_manifests(deploy: Path, serve_options: str) -> None:
    """Probes ask routes that are open, the grace period is longer than the drain, nothing runs as root."""
    objects = [each for path in sorted((deploy / "kubernetes").glob("*.yaml")) for each in documents(path)]
    by_kind = {each["kind"]: each for each in objects}
    assert set(by_kind) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in HEALTH_PATHS
    assert container["readinessProbe"]["timeoutSeconds"] > ServerSettings().canary_s
    assert pod["terminationGracePeriodSeconds"] > ServerSettings().drain_s + 5
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    for option in (word for word in container["args"] if word.startswith("--")):
        assert option in serve_options
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {"/bundle", "/index", "/keys"} <= mounts
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    selector = by_kind["Service"]["spec"]["selector"].items()
    assert selector <= by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "vlkd"


def test_the_image_is_small_and_not_root(deploy: Path, repo_root: Path, serve_options: str) -> None:
    """Every folder that it copies exists, it installs the extra without torch, and its options are real."""
    text = (deploy / "Dockerfile").read_text()
    for line in text.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in shlex.split(line)[1:-1]:
                assert (repo_root / source).exists(), source
    assert re.search(r"^USER 10001", text, re.MULTILINE) and text.index("USER 10001") < text.index("ENTRYPOINT")
    assert '".[serve,tracing]"' in text and "find_spec('torch') is None" in text
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE).group(1))  # type: ignore[union-attr]
    for option in (word for word in entry if word.startswith("--")):
        assert option in serve_options


def test_compose(deploy: Path, serve_options: str) -> None:
    """Parses; only this machine reaches its ports; it waits for the drain."""
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    vlkd = compose["services"]["vlkd"]
    assert int(vlkd["stop_grace_period"].rstrip("s")) > ServerSettings().drain_s and vlkd["read_only"]
    for option in (word for word in vlkd["command"] if word.startswith("--")):
        assert option in serve_options
    assert vlkd["user"] == "${VLKD_UID:-10001}:${VLKD_GID:-10001}"  # who may read the file of keys differs


def test_prometheus_has_a_key(deploy: Path) -> None:
    """The composed server asks for one at /metrics as everywhere, and the file that is named is mounted."""
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    (job,) = yaml.safe_load((deploy / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == "/metrics" and "--keys" in compose["services"]["vlkd"]["command"]
    mounted = {f"/run/secrets/{name}" for name in compose["services"]["prometheus"]["secrets"]}
    assert job["authorization"]["credentials_file"] in mounted
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


def test_grafana_finds_its_data_and_its_dashboard(deploy: Path) -> None:
    """What it is provisioned with lies where compose mounts it, and asks the server of the compose file."""
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    mounts = dict(each.split(":")[1::-1] for each in services["grafana"]["volumes"])
    sources, dashboards = (mounts[f"/etc/grafana/provisioning/{kind}"] for kind in ("datasources", "dashboards"))
    (source,) = next(iter(documents(next((deploy / sources).glob("*.yaml")))))["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    name, port = source["url"].removeprefix("http://").split(":")
    assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (provider,) = next(iter(documents(next((deploy / dashboards).glob("*.yaml")))))["providers"]
    assert (deploy / mounts[provider["options"]["path"]] / "vlkd.json").is_file()
