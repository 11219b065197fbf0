"""A pushed student in a second environment that has transformers and timm and has never seen vlkd-hub.

``make test-hub`` makes that environment and names its Python in ``VLKD_FRESH_PYTHON``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkd_hub.hub.push import push
from vlkd_hub.inference import TorchStudent
from vlkd_training.saving import save_model

from .hub_server import HubServer

PYTHON = os.environ.get("VLKD_FRESH_PYTHON")
SCRIPT = Path(__file__).with_name("fresh_user.py")

pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs a second environment: run make test-hub")


def user(environment: dict[str, str], *args: object) -> dict[str, Any]:
    """Run the stranger's program; ``-I`` keeps this checkout out of its sight."""
    done = subprocess.run(
        [str(PYTHON), "-I", str(SCRIPT), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_load_caption_tune_save_load_and_offline(
    hub: HubServer, hub_environment: dict[str, str], tiny_student: Path, tmp_path: Path
) -> None:
    """Online first; then the server is gone and the same program runs from the cache."""
    student = TorchStudent.from_pretrained(tiny_student)
    save_model(student.model, student.processor, tmp_path / "student", {"teacher": "drawn at random"})
    push(tmp_path / "student", "me/tiny")
    picture = tmp_path / "photo.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)).save(picture)
    hub_environment["HF_HOME"] = str(tmp_path / "stranger")
    hub_environment.pop("HF_TOKEN")

    found = user(hub_environment, "me/tiny", picture, tmp_path, 1)
    assert not found["has_vlkd_hub"]
    assert all(name.startswith("transformers_modules.") for name in found["classes"])
    here = Image.open(picture).convert("RGB")
    assert [found["caption"]] == student.caption([here])
    np.testing.assert_allclose(found["vectors"], student.embed_images([here])[0], atol=1e-5)
    assert found["card"] == str([found["caption"]])
    assert found["loss"] > 0
    assert found["same_weights"] and found["tuned_caption"] == found["again_caption"]

    hub.asked.clear()
    offline = user(hub_environment | {"HF_HUB_OFFLINE": "1"}, "me/tiny", picture, tmp_path, 0)
    assert hub.asked == []
    for key in ("caption", "vectors", "card", "classes"):
        assert offline[key] == found[key]
    assert offline["again_caption"] == found["again_caption"]


def test_nothing_runs_without_consent(
    hub: HubServer, hub_environment: dict[str, str], tiny_student: Path, tmp_path: Path
) -> None:
    """Without ``trust_remote_code`` the stranger gets an error, and no module of ours is there."""
    student = TorchStudent.from_pretrained(tiny_student)
    save_model(student.model, student.processor, tmp_path / "student", {})
    push(tmp_path / "student", "me/tiny")
    hub_environment["HF_HOME"] = str(tmp_path / "stranger")
    program = "from transformers import AutoModel; AutoModel.from_pretrained('me/tiny', trust_remote_code=False)"
    done = subprocess.run(
        [str(PYTHON), "-I", "-c", program], capture_output=True, text=True, timeout=300, env=hub_environment, cwd="/"
    )
    assert done.returncode != 0
    assert "trust_remote_code=True" in done.stderr
    assert not list((tmp_path / "stranger").rglob("modeling_vlkd*.pyc"))
