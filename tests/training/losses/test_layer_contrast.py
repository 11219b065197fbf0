"""The contrast of several layers against CLIP's loss, written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlkd_training.losses import LayerContrastLoss

WIDTHS = (8, 12, 5)
SCALES = (1 / 0.07, 3.0, 10.0)


def layers(seed: int, rows: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [4 * torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in WIDTHS]


def clip(image: torch.Tensor, text: torch.Tensor, scale: float) -> float:
    """Equations (23)-(29) with (34), by loops."""
    first, second = ((rows / rows.norm(dim=1, keepdim=True)).numpy() for rows in (image, text))
    total = 0.0
    for scores in (scale * first @ second.T, scale * second @ first.T):
        for k, row in enumerate(scores):
            total -= float(row[k] - np.log(np.exp(row).sum())) / len(scores)
    return total / 2


@pytest.mark.parametrize("count", [3, 2, 1])
def test_is_the_mean_of_the_layers(count: int) -> None:
    """Six terms of 1/6 for three layers (47), four of 1/4 for two (53), each with its own temperature."""
    images, texts = layers(0)[:count], layers(1)[:count]
    parts = [clip(*pair) for pair in zip(images, texts, SCALES[:count], strict=True)]
    found = LayerContrastLoss()(images, texts, torch.tensor(SCALES[:count]))
    assert found.item() == pytest.approx(sum(parts) / count, rel=1e-5)


def test_raw_outputs_are_normalised() -> None:
    """The contrast is on cosines; a longer vector is no closer."""
    images, texts = layers(2), layers(3)
    scale = torch.tensor(SCALES)
    longer = [rows * 7 for rows in images]
    torch.testing.assert_close(LayerContrastLoss()(longer, texts, scale), LayerContrastLoss()(images, texts, scale))


def test_pictures_and_texts_may_change_places() -> None:
    """Both directions weigh the same, and so does every row."""
    images, texts, scale = layers(4), layers(5), torch.tensor(SCALES)
    plain = LayerContrastLoss()(images, texts, scale)
    torch.testing.assert_close(LayerContrastLoss()(texts, images, scale), plain)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = ([rows[order] for rows in side] for side in (images, texts))
    torch.testing.assert_close(LayerContrastLoss()(*shuffled, scale), plain)


def test_each_temperature_learns_from_its_own_layer() -> None:
    """A layer whose pairs all agree pushes its temperature on; another layer's is not moved by it."""
    log_scale = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    images, texts = layers(6), layers(7)
    LayerContrastLoss()(images, texts, log_scale.exp()).backward()
    moved = [rows.clone() for rows in texts]
    moved[1] = images[1].clone()
    other = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    LayerContrastLoss()(images, moved, other.exp()).backward()
    same = torch.isclose(log_scale.grad, other.grad, rtol=1e-6)
    assert same.tolist() == [True, False, True]
    assert other.grad[1] < 0


def test_gradients_reach_every_layer_of_both_sides() -> None:
    images, texts = ([rows.requires_grad_() for rows in layers(seed)] for seed in (8, 9))
    LayerContrastLoss()(images, texts, torch.tensor(SCALES)).backward()
    assert all(rows.grad.abs().sum() > 0 for rows in (*images, *texts))


def test_other_captions_of_a_picture_are_no_negatives() -> None:
    """With every row of one picture no negative is left, and the loss is 0 on every layer."""
    ids = torch.zeros(6, dtype=torch.long)
    found = LayerContrastLoss()(layers(10), layers(11), torch.tensor(SCALES), ids)
    assert found.item() == pytest.approx(0, abs=1e-7)


def test_refuses_what_would_go_wrong_silently() -> None:
    images, texts = layers(0), layers(1)
    with pytest.raises(ValueError, match="Got 3 layers of pictures and 2 of captions"):
        LayerContrastLoss()(images, texts[:2], torch.tensor(SCALES))
    with pytest.raises(ValueError, match="Got 0 layers"):
        LayerContrastLoss()([], [], torch.ones(0))
    with pytest.raises(ValueError, match=r"logit_scale of shape \(1,\) for 3 layers"):
        LayerContrastLoss()(images, texts, torch.ones(1))
    with pytest.raises(ValueError, match="positive and finite"):
        LayerContrastLoss()(images, texts, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="Layer 1 of the pictures has shape"):
        LayerContrastLoss()([images[0].unsqueeze(1)], [texts[0].unsqueeze(1)], torch.ones(1))
    with pytest.raises(ValueError, match=r"image_ids have shape \(1,\)"):
        LayerContrastLoss()(images, texts, torch.tensor(SCALES), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="at least 2 pairs"):
        LayerContrastLoss()([images[0][:1]], [texts[0][:1]], torch.ones(1))
