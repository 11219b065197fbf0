"""A saved student in a new process: with the package, and with nothing but its own folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = """
import json, sys
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoModelForZeroShotImageClassification, AutoProcessor

torch.set_num_threads(1)
folder = Path(sys.argv[1])
picture = Image.linear_gradient("L").resize((50, 40)).convert("RGB")


def embed_and_caption(**options):
    processor = AutoProcessor.from_pretrained(folder, **options)
    dual = AutoModel.from_pretrained(folder, **options).eval()
    zero_shot = AutoModelForZeroShotImageClassification.from_pretrained(folder, **options).eval()
    writer = AutoModelForImageTextToText.from_pretrained(folder, **options).eval()
    inputs = processor(images=picture, text=[processor.build_prompt("caption")], return_tensors="pt")
    with torch.no_grad():
        image = dual.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output
        text = dual.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
        scores = zero_shot(**inputs).logits_per_image
        ids = writer.generate(**inputs, max_new_tokens=5)
    found = {
        "classes": [type(item).__name__ for item in (processor, dual, zero_shot, writer)],
        "image_processor": [type(processor.image_processor).__name__, processor.image_processor.backend],
        "image": image.tolist(), "text": text.tolist(), "scores": scores.tolist(), "ids": ids.tolist(),
    }
    return found, writer, processor, inputs
"""

WITH_PACKAGE = """
import vlkd_hub.models
from transformers import pipeline

found, *_ = embed_and_caption()
pillow = AutoProcessor.from_pretrained(folder).image_processor
labels = ["red circle", "blue square"]
classify = pipeline("zero-shot-image-classification", model=str(folder), image_processor=pillow)
found["labels"] = sorted(item["label"] for item in classify(picture, candidate_labels=labels))
features = pipeline("image-feature-extraction", model=str(folder), image_processor=pillow)
found["pooled"] = features(picture, pool=True)[0]
write = pipeline("image-text-to-text", model=str(folder))
text = "what color is the circle ? [MASK]"
chat = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "what color?"}]}]
found["full"] = write(images=picture, text=text, max_new_tokens=4)[0]["generated_text"]
found["new"] = write(images=picture, text=text, max_new_tokens=4, return_full_text=False)[0]["generated_text"]
found["chat"] = write(text=chat, max_new_tokens=4, return_full_text=False)[0]["generated_text"]
print(json.dumps(found))
"""

WITHOUT_PACKAGE = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("vlkd_"):
            raise ModuleNotFoundError(f"blocked: {name}")


sys.meta_path.insert(0, Blocker())
found, writer, processor, inputs = embed_and_caption(trust_remote_code=True)
optimizer = torch.optim.SGD([p for p in writer.parameters() if p.requires_grad], lr=0.1)
labels = torch.tensor([[6, 7, 3]])
writer.train()
writer(**inputs, labels=labels).loss.backward()
optimizer.step()
writer.eval()
again = Path(sys.argv[2])
writer.save_pretrained(again)
processor.save_pretrained(again)
loaded = AutoModelForImageTextToText.from_pretrained(again, trust_remote_code=True).eval()
AutoProcessor.from_pretrained(again, trust_remote_code=True)
with torch.no_grad():
    found["same_after_saving"] = torch.equal(
        loaded(**inputs, labels=labels).logits, writer(**inputs, labels=labels).logits
    )
found["weights"] = sorted(item.name for item in again.iterdir() if item.suffix in (".safetensors", ".bin", ".pt"))
found["package"] = any(name.split(".")[0] == "vlkd_hub" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def saved(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student as every command saves it."""
    from vlkd_hub.models import VlkdForConditionalGeneration, VlkdProcessor
    from vlkd_training.saving import save_model

    folder = tmp_path_factory.mktemp("saved") / "student"
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student)
    save_model(model, VlkdProcessor.from_pretrained(tiny_student), folder, {"data": "none"})
    return folder


def run(script: str, *arguments: Path, home: Path) -> dict:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, env=environment, cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def packaged(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(WITH_PACKAGE, saved, home=tmp_path_factory.mktemp("home"))


def test_auto_classes(packaged: dict) -> None:
    assert packaged["classes"] == ["VlkdProcessor", "VlkdModel", "VlkdModel", "VlkdForConditionalGeneration"]


def test_the_processor_has_its_pillow_backend(packaged: dict) -> None:
    """transformers gives the torchvision one unless asked; its resize is not the one of training."""
    assert packaged["image_processor"] == ["CLIPImageProcessorPil", "pil"]


def test_pipelines(packaged: dict) -> None:
    assert packaged["labels"] == ["blue square", "red circle"]
    assert packaged["pooled"] == pytest.approx(packaged["image"][0], abs=1e-5)
    assert packaged["full"] == "what color is the circle ? [MASK]" + packaged["new"]
    assert isinstance(packaged["chat"], str) and "color" not in packaged["chat"].split("[MASK]")[0]


def test_the_folder_alone_is_enough(saved: Path, packaged: dict, tmp_path: Path) -> None:
    """No package, no network: same vectors, same caption, and it can be trained, saved and loaded again."""
    found = run(WITHOUT_PACKAGE, saved, tmp_path / "again", home=tmp_path)
    assert not found["package"]
    for key in ("classes", "image_processor", "image", "text", "scores", "ids"):
        assert found[key] == packaged[key]
    assert found["same_after_saving"]
    assert found["weights"] == ["model.safetensors"]


def test_safetensors_only(saved: Path) -> None:
    assert [item.name for item in saved.iterdir() if item.suffix in (".safetensors", ".bin", ".pt", ".pkl")] == [
        "model.safetensors"
    ]
