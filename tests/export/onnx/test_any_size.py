"""Square pictures of other sizes through one graph, where the image tower can take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vlkd_export.onnx.any_size import grid_of_any_size, tower_of_any_size
from vlkd_export.onnx.graph import GraphSpec, export_graph
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.models.vlkd import VisionTower, VisionTowerConfig
from vlkd_hub.runtime.sessions import open_session


@pytest.mark.parametrize("side", [1, 3, 7])
def test_the_pooling_is_the_towers(side: int) -> None:
    """Means where the cells fit, linear where they do not, larger and smaller than the map."""
    torch.manual_seed(0)
    for length in range(1, 24):
        feature_map = torch.randn(2, 5, length, length)
        expected = VisionTower._to_grid(feature_map, side)
        torch.testing.assert_close(grid_of_any_size(feature_map, side), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_graph_for_several_sizes(tmp_path: Path) -> None:
    """With a tower that mixes two stages of its backbone, as students have; the tower is as it was afterwards."""
    torch.manual_seed(0)
    config = VisionTowerConfig(
        backbone_name="test_efficientnet", feature_layers=[2, -1], grid_size=4, image_size=64, projection_dim=8
    )
    tower = VisionTower(config).eval()

    class Embeds(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = tower

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.tower(pixel_values=pixel_values).image_embeds

    size = torch.export.Dim("size", min=32)
    spec = GraphSpec(
        name="tower",
        module=Embeds(),
        example=(torch.rand(2, 3, 64, 64),),
        dynamic_shapes=({0: torch.export.Dim("batch"), 2: size, 3: size},),
        input_names=["pixel_values"],
        output_names=["image_embeds"],
    )
    with tower_of_any_size(tower):
        session = open_session(export_graph(spec, tmp_path, 18))
    assert tower._to_grid is VisionTower._to_grid
    for side in (32, 64, 96, 160):
        pixels = torch.rand(3, 3, side, side)
        expected = tower(pixel_values=pixels).image_embeds.numpy()
        np.testing.assert_allclose(session.run(None, {"pixel_values": pixels.numpy()})[0], expected, atol=1e-4)


def test_towers_with_positions_of_their_own_are_refused() -> None:
    """Their patches would be given positions of other places."""
    vit = VisionTowerConfig(
        backbone_type="hf",
        backbone_config={
            "model_type": "clip_vision_model",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 32,
            "patch_size": 16,
        },
        pool="cls",
    )
    for tower in (VisionTower(vit), None):
        with pytest.raises(InvalidInputError, match="pictures of one size only"), tower_of_any_size(tower):
            raise AssertionError("it was taken")
