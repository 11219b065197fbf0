"""Training of the image quantizer: clusters are found, a broken run goes on to the bit, usage is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import ImageQuantizerConfig, ImageQuantizerModel
from vlkd_training import image_quantizer
from vlkd_training.image_quantizer import FeatureCollator, UsageAfterEpoch, measure_quantizer, run_image_quantizer
from vlkd_training.image_quantizer_specs import QuantizerTeacherSpec
from vlkd_training.methods import ImageQuantizerMethod
from vlkd_training.patch_features import PatchEmbeddings, TeacherFeatures, cached_teacher_features
from vlkd_training.phases import make_method
from vlkd_training.recipe import Phase

CLUSTERS, WIDTH, PICTURES = 8, 12, 64


@pytest.fixture
def features(seeded: None) -> TeacherFeatures:
    """Two views of pictures in eight tight clusters; patches say nothing of the cluster."""
    centres = torch.randn(CLUSTERS, WIDTH)
    classes = centres[torch.arange(PICTURES) % CLUSTERS] + 0.05 * torch.randn(2, PICTURES, WIDTH)
    return TeacherFeatures(classes.numpy(), torch.randn(2, PICTURES, 4, WIDTH).numpy())


def small(**changes: Any) -> ImageQuantizerModel:
    torch.manual_seed(0)
    values = {"hidden_size": WIDTH, "code_size": 4, "codebook_size": 16, "num_attention_heads": 2, "ema_decay": 0.8}
    return ImageQuantizerModel(ImageQuantizerConfig(**(values | changes)))


def train(model: ImageQuantizerModel, features: TeacherFeatures, steps: int) -> None:
    method, collate = ImageQuantizerMethod(), FeatureCollator(features)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        batch = collate(torch.randint(0, PICTURES, (32,)).tolist())
        sum(method(model.train()(**method.wanted(batch)), batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_training_on_clusters_raises_usage_and_lowers_the_loss(features: TeacherFeatures) -> None:
    """Clusters end in prototypes of their own; before, random directions are all that the codebook has."""
    model = small()
    before, loss_before = measure_quantizer(model, features)
    train(model, features, 60)
    after, loss_after = measure_quantizer(model, features)
    assert loss_after < 0.3 * loss_before
    assert after.perplexity > before.perplexity + 0.5 and not after.collapsed
    codes = model.encode(torch.from_numpy(features.classes[0])).view(-1, CLUSTERS)
    assert (codes == codes[0]).float().mean() > 0.95, "pictures of a cluster share a prototype"


def test_a_large_common_mean_collapses_a_random_codebook_and_that_is_told(features: TeacherFeatures) -> None:
    """All vectors lie in one cone, as pooled features do. (k-means helps and is no cure: it lost one seed of four.)"""
    mean = 3 * np.random.default_rng(0).normal(size=WIDTH).astype("float32")
    shifted, model = TeacherFeatures(features.classes + mean, features.patches), small(codebook_init="random")
    train(model, shifted, 40)
    usage, _ = measure_quantizer(model, shifted)
    assert usage.used <= 2 and usage.collapsed


def test_standardized_features_do_not_collapse(features: TeacherFeatures, tmp_path: Path) -> None:
    """The same cone, shifted and scaled by channel: the clusters are told apart, and the reconstruction is raw."""
    mean = 3 * np.random.default_rng(0).normal(size=WIDTH).astype("float32")
    shifted = TeacherFeatures(features.classes + mean, features.patches)
    model = small(codebook_init="random", standardize=True)
    model.fit_standardization(torch.from_numpy(shifted.classes[0]))
    _, before = measure_quantizer(model, shifted)
    train(model, shifted, 60)
    usage, loss = measure_quantizer(model, shifted)
    assert usage.used >= CLUSTERS / 2 and not usage.collapsed and loss < 0.5 * before
    model.save_pretrained(tmp_path)
    again = ImageQuantizerModel.from_pretrained(tmp_path)
    assert torch.equal(again.cls_mean, model.cls_mean) and torch.equal(again.cls_spread, model.cls_spread)
    assert again.cls_mean.abs().max() > 1, "the mean is the pictures', not the default"


def test_standardization_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="standardize=False"):
        small().fit_standardization(torch.zeros(4, WIDTH))
    with pytest.raises(ValueError, match=r"at least 2 pictures, got \(1, 12\)"):
        small(standardize=True).fit_standardization(torch.zeros(1, WIDTH))


def test_method_names_the_parts(features: TeacherFeatures) -> None:
    method, batch = make_method(Phase(method="image_quantizer")), FeatureCollator(features)([3, 5])
    parts = method(small()(**method.wanted(batch)), batch)
    assert list(parts) == ["reconstruction", "commitment"] and set(method.wanted(batch)) == set(method.student_inputs)
    assert torch.equal(batch["image_ids"], torch.tensor([3, 5]))


def test_measuring_changes_nothing(features: TeacherFeatures) -> None:
    """Between two steps of a run that can be resumed: no random number, no prototype, no mode."""
    model = small().train()
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (measure_quantizer(model, features) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_usage_of_a_repeated_epoch_is_replaced(features: TeacherFeatures, tmp_path: Path) -> None:
    """A resumed run comes by an epoch's end again."""
    watch = UsageAfterEpoch(features, tmp_path / "phase-1" / "usage.jsonl")
    for step in (10, 20, 10):
        watch.on_epoch_end(None, SimpleNamespace(global_step=step, epoch=step / 10), None, model=small())
    (line,) = map(json.loads, watch.file.read_text().splitlines())
    assert line["step"] == 10 and {"loss", "used", "share", "perplexity", "collapsed", "pictures"} <= set(line)


class Pictures:
    """Records whose pictures nobody decodes: the features are there."""

    fingerprint = "toy"

    def __len__(self) -> int:
        return PICTURES


@pytest.fixture
def toy_run(features: TeacherFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a recipe on the toy features, without a teacher."""
    processor = SimpleNamespace(save_pretrained=lambda folder: None)
    teacher = SimpleNamespace(mean=torch.zeros(3, 1, 1), std=torch.ones(3, 1, 1))
    monkeypatch.setenv("VLKD_QUIET", "1")
    monkeypatch.setattr(image_quantizer, "load_records", lambda *args, **options: Pictures())
    monkeypatch.setattr(image_quantizer, "load_image_teacher", lambda *args: teacher)
    monkeypatch.setattr(image_quantizer, "make_image_processor", lambda *args: processor)
    monkeypatch.setattr(image_quantizer, "cached_teacher_features", lambda *args, **options: features)

    def run(output: Path, student: str = "codebook_size: 16", method: str = "image_quantizer", **options: Any) -> Any:
        recipe = tmp_path / "recipe.yaml"
        model = f"{{{student}, code_size: 4, num_attention_heads: 2}}"
        train = "{num_train_epochs: 4, per_device_train_batch_size: 16, learning_rate: 5.0e-3, logging_steps: 4}"
        recipe.write_text(
            f"kind: quantize-images\nsource: ours\nstudent: {{model: {model}}}\n"
            f"phases: [{{method: {method}, train: {train}}}]\n"
        )
        own = {"bf16": False, "use_cpu": True, "report_to": "none", "checkpoint_every_s": 0.0}
        return run_image_quantizer(recipe, "unused", output, overrides=own | options.pop("overrides", {}), **options)

    return run


def test_a_broken_run_goes_on_to_the_same_codebook(
    toy_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codebook moves outside the optimizer; a checkpoint in the middle must hold it, to the bit."""
    every = {"student": "codebook_size: 16, standardize: true", "overrides": {"checkpoint_every_s": 1e-6}}
    metrics = toy_run(tmp_path / "whole", **every)

    class Break(Exception):
        pass

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 8:
            raise Break

    plain = UsageAfterEpoch.on_epoch_end
    monkeypatch.setattr(UsageAfterEpoch, "on_epoch_end", stop)
    with pytest.raises(Break):
        toy_run(tmp_path / "broken", **every)
    monkeypatch.setattr(UsageAfterEpoch, "on_epoch_end", plain)
    assert list((tmp_path / "broken" / "phase-1").glob("checkpoint-*"))
    toy_run(tmp_path / "broken", resume=True, **every)
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert "codebook.prototypes" in whole and whole["cls_mean"].abs().max() > 0.1
    for name, value in whole.items():
        assert torch.equal(broken[name], value), name
    assert metrics["codebook_used"] > 1 and metrics["codebook_collapsed"] is False
    lines = (tmp_path / "whole" / "phase-1" / "usage.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_refuses_what_it_cannot_do(toy_run: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no key 'codebok_size'. Did you mean 'codebook_size'"):
        toy_run(tmp_path / "out", student="codebok_size: 4")
    with pytest.raises(RecipeError, match="student: model: A codebook needs at least 2 prototypes"):
        toy_run(tmp_path / "out", student="codebook_size: 1")
    with pytest.raises(RecipeError, match="phases of 'image_quantizer', got 'align'"):
        toy_run(tmp_path / "out", method="align")


class Embeddings(nn.Module):
    """The start of a Transformer of transformers: class token first."""

    base_model_prefix = "vit"

    def embeddings(self, pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        return pixels.flatten(2).transpose(1, 2), (1, 1)


class PatchEmbed(nn.Module):
    """The start of a Transformer of timm: no class token yet, positions with one."""

    pos_embed = torch.arange(5.0).view(1, 5, 1)

    def patch_embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(2).transpose(1, 2)


def test_patch_embeddings_leave_the_class_token_out() -> None:
    """h_{v,0,n} of (87), n from 1: in transformers the class token is already there, in timm not yet."""
    pixels = torch.randn(2, 3, 2, 2)
    tokens = pixels.flatten(2).transpose(1, 2)
    assert torch.equal(PatchEmbeddings(Embeddings(), 2).backbone_features(pixels), tokens[:, 1:])
    expected = tokens + torch.arange(1.0, 5.0).view(1, 4, 1)
    assert torch.equal(PatchEmbeddings(PatchEmbed(), 2).backbone_features(pixels), expected)
    with pytest.raises(RecipeError, match="Linear has no patch embeddings"):
        PatchEmbeddings(nn.Linear(1, 1), 2)


def test_the_last_layer_is_the_teachers_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """-1 asks the backbone once; another number of a Transformer is refused."""
    said = {"cls": np.zeros((1, 2, 3)), "patches": np.ones((1, 2, 4, 3))}
    monkeypatch.setattr("vlkd_training.patch_features.cached_teacher_outputs", lambda *args, **options: said)
    teacher: Any = SimpleNamespace(model=PatchEmbed())
    found = cached_teacher_features(teacher, QuantizerTeacherSpec(), None, None, root=tmp_path)
    assert found.patches is said["patches"]
    with pytest.raises(RecipeError, match="0 .embeddings. or -1 .last layer., got 3"):
        cached_teacher_features(teacher, QuantizerTeacherSpec(patches=3), None, None, root=tmp_path)
