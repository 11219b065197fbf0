"""Target-CMLI against equations (72) and (75)-(77), written again as loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlkd_training.losses import TargetCMLILoss

BATCH, PATCHES, TOKENS, WIDTH, SMALL = 3, 5, 4, 6, 2
MASK = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def draw(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """What the loss takes; g is a linear map."""
    patches, g = draw(0, BATCH, PATCHES, WIDTH), draw(1, WIDTH, SMALL)
    return {
        "image_tokens": draw(2, BATCH, PATCHES, WIDTH),
        "teacher_patches": patches,
        "projected_text": draw(3, BATCH, TOKENS, WIDTH) @ g,
        "projected_patches": patches @ g,
    }


def mean_square(first: torch.Tensor, second: torch.Tensor) -> float:
    """||first - second||^2 of equation (1)."""
    return sum((a - b) ** 2 for a, b in zip(first.tolist(), second.tolist(), strict=True)) / len(first)


def reference(given: dict[str, torch.Tensor], mask: torch.Tensor, mean: bool) -> tuple[float, float]:
    image = text = 0.0
    for b in range(BATCH):
        patches = given["projected_patches"][b]
        total = sum(mean_square(given["image_tokens"][b, n], given["teacher_patches"][b, n]) for n in range(PATCHES))
        image += total / (PATCHES if mean else 1) / BATCH
        words = [z for z in range(TOKENS) if mask[b, z]]
        total = 0.0
        for z in words:
            token = given["projected_text"][b, z]
            cosines = [float(torch.nn.functional.cosine_similarity(token, patch, dim=0)) for patch in patches]
            total += mean_square(token, patches[cosines.index(max(cosines))])
        text += total / (max(len(words), 1) if mean else 1) / BATCH
    return image / 2, text / 2


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("mask", [MASK, None])
def test_is_the_equations(tensors: dict[str, torch.Tensor], reduction: Any, mask: torch.Tensor | None) -> None:
    """Half of each part; a text without words adds nothing, and the printed sums are an option."""
    expected = reference(tensors, torch.ones_like(MASK) if mask is None else mask, reduction == "mean")
    found = TargetCMLILoss(reduction)(**tensors, text_mask=mask)
    assert set(found) == {"kd_image", "kd_text"}
    assert (found["kd_image"].item(), found["kd_text"].item()) == pytest.approx(expected, rel=1e-4)


def test_a_word_that_is_a_patch_costs_nothing(tensors: dict[str, torch.Tensor]) -> None:
    """Whichever patch it equals: the match has to find it."""
    order = torch.tensor([3, 0, 4, 1])
    tensors["projected_text"] = tensors["projected_patches"][:, order]
    tensors["image_tokens"] = tensors["teacher_patches"].clone()
    found = TargetCMLILoss()(**tensors)
    assert found["kd_image"].item() == found["kd_text"].item() == 0


def test_the_match_goes_by_angle_and_the_regression_by_distance(tensors: dict[str, torch.Tensor]) -> None:
    """A near patch in another direction is not the target of a word; a far one in the same direction is."""
    tensors["projected_patches"] = torch.tensor([[10.0, 0.0], [0.0, 1.0]]).repeat(BATCH, 3, 1)[:, :PATCHES]
    tensors["projected_text"] = torch.tensor([1.0, 0.9]).expand(BATCH, TOKENS, 2).clone()
    found = TargetCMLILoss()(**tensors)
    assert found["kd_text"].item() == pytest.approx((9.0**2 + 0.9**2) / 2 / 2, rel=1e-5)


def test_order_does_not_matter(tensors: dict[str, torch.Tensor]) -> None:
    """The batch may be shuffled, and the patches too, since a word finds its patch wherever it stands."""
    plain = TargetCMLILoss()(**tensors, text_mask=MASK)
    rows, places = torch.tensor([2, 0, 1]), torch.tensor([4, 2, 0, 1, 3])
    shuffled = {name: value[rows] for name, value in tensors.items()}
    torch.testing.assert_close(TargetCMLILoss()(**shuffled, text_mask=MASK[rows]), plain)
    moved = {name: value if name == "projected_text" else value[:, places] for name, value in tensors.items()}
    torch.testing.assert_close(TargetCMLILoss()(**moved, text_mask=MASK), plain)


def test_gradients(tensors: dict[str, torch.Tensor]) -> None:
    """The teacher gets none; words that count and the patches they found get equal and opposite ones through g."""
    given = {name: value.requires_grad_() for name, value in tensors.items()}
    teacher = given["teacher_patches"]
    sum(TargetCMLILoss()(**given, text_mask=MASK).values()).backward()
    assert teacher.grad is None
    torch.testing.assert_close(
        given["image_tokens"].grad, (given["image_tokens"] - teacher).detach() / (BATCH * PATCHES * WIDTH)
    )
    words = given["projected_text"].grad
    assert (words[MASK == 0] == 0).all()
    assert (words[MASK == 1].abs().sum(dim=-1) > 0).all()
    torch.testing.assert_close(given["projected_patches"].grad.sum(dim=1), -words.sum(dim=1))


def test_a_caller_may_hold_the_target_still(tensors: dict[str, torch.Tensor]) -> None:
    """Detached patches leave the value as it is and send no gradient to g through the teacher."""
    plain = TargetCMLILoss()(**tensors)
    patches = tensors["projected_patches"].requires_grad_()
    tensors["projected_patches"] = patches.detach()
    tensors["projected_text"].requires_grad_()
    found = TargetCMLILoss()(**tensors)
    found["kd_text"].backward()
    torch.testing.assert_close(found, plain)
    assert patches.grad is None


def test_refuses_what_would_go_wrong_silently(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="'mean' or 'sum', got 'none'"):
        TargetCMLILoss("none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Patches have shape \(3, 1, 6\) and the teacher's patches \(3, 5, 6\)"):
        TargetCMLILoss()(**{**tensors, "image_tokens": tensors["image_tokens"][:, :1]})
    with pytest.raises(ValueError, match="g changes the last axis alone"):
        TargetCMLILoss()(**{**tensors, "projected_patches": tensors["projected_patches"][:, :4]})
    with pytest.raises(ValueError, match="row k to row k"):
        TargetCMLILoss()(**{**tensors, "projected_text": tensors["projected_text"][:1]})
    with pytest.raises(ValueError, match=r"text_mask has shape \(3, 1\)"):
        TargetCMLILoss()(**tensors, text_mask=MASK[:, :1])
    with pytest.raises(ValueError, match="No token counts in a batch of 3 texts"):
        TargetCMLILoss()(**tensors, text_mask=torch.zeros_like(MASK))


def test_refuses_a_broken_teacher(tensors: dict[str, torch.Tensor]) -> None:
    tensors["teacher_patches"][1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="teacher's patches hold NaN or infinity"):
        TargetCMLILoss()(**tensors)
