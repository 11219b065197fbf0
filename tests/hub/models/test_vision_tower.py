"""The image tower, which every model folder carries a copy of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vlkd_hub.models
from vlkd_hub.models.vlkd import VisionTower, VisionTowerConfig

MODELS = Path(vlkd_hub.models.__file__).parent


def timm_config(**changes) -> VisionTowerConfig:
    values = {"backbone_name": "test_efficientnet", "image_size": 32, "projection_dim": 8, "hidden_size": 16}
    return VisionTowerConfig(**(values | changes))


@pytest.mark.parametrize("name", ["vision_tower.py", "compatibility.py"])
def test_copies_are_byte_identical(name: str) -> None:
    """A model folder is shipped as remote code and may import nothing of its neighbour; a fix must reach every copy."""
    copies = sorted(MODELS.glob(f"*/{name}"))
    assert len(copies) >= 2
    assert len({copy.read_bytes() for copy in copies}) == 1


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"grid_size": 1}, 1),
        ({"grid_size": 2, "feature_layers": [3, 4], "pool": "attention", "num_head_layers": 1}, 4),
        ({"grid_size": 3, "feature_layers": [2, -1], "num_head_layers": 1}, 9),
    ],
)
def test_timm_backbone(seeded, changes, tokens) -> None:
    """Cached backbone features give what pixels give, which is all that training on a cache rests on."""
    tower = VisionTower(timm_config(**changes)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        whole = tower(pixel_values=pixels)
        cached = tower(backbone_features=tower.backbone_features(pixels))
    assert whole.token_embeds.shape == (2, tokens, 8)
    assert torch.equal(whole.image_embeds, cached.image_embeds)
    assert not torch.allclose(whole.image_embeds[0], whole.image_embeds[1], atol=0.0)  # fresh timm maps are tiny


def test_average_pool_is_the_mean_of_the_locations(seeded) -> None:
    """Locations and picture live in one space: W is linear, so the picture is their mean."""
    tower = VisionTower(timm_config(grid_size=2, feature_layers=[3])).eval()
    with torch.no_grad():
        output = tower(pixel_values=torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(output.image_embeds, output.token_embeds.mean(dim=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone_type": "keras"}, "backbone_type must be 'timm' or 'hf', got 'keras'"),
        ({"pool": "max"}, "pool must be 'avg', 'attention' or 'cls', got 'max'"),
        ({"pool": "cls"}, "pool='cls' needs a backbone with a class token"),
        ({"backbone_type": "hf"}, "needs backbone_config"),
    ],
)
def test_config_refuses(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        VisionTowerConfig(**values)


def test_forward_refuses_none_and_both(seeded) -> None:
    tower = VisionTower(timm_config(grid_size=1))
    with pytest.raises(ValueError, match="exactly one of pixel_values and backbone_features"):
        tower()
    with pytest.raises(ValueError, match="exactly one of pixel_values and backbone_features"):
        tower(pixel_values=torch.zeros(1, 3, 32, 32), backbone_features=torch.zeros(1, 1, 4))
