"""Late interaction against equations (71)-(74), written again as loops over one pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vlkd_training.losses import match_patches, score_all_pairs, score_pairs, word_mask

IMAGES, TEXTS, PATCHES, TOKENS, DIM = 4, 4, 6, 5, 3


def tokens(seed: int, rows: int, length: int) -> torch.Tensor:
    return 2 * torch.randn(rows, length, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(image: torch.Tensor, text: torch.Tensor, patches: list[int], words: list[int]) -> tuple[float, float, dict]:
    """s^i2t, s^t2i and m^t2i of one picture with one text, over the places that count."""
    cosine = {
        (k, j): float(image[k] @ text[j]) / float(image[k].norm() * text[j].norm()) for k in patches for j in words
    }
    to_text = sum(max(cosine[k, j] for j in words) for k in patches) / len(patches)
    to_image = sum(max(cosine[k, j] for k in patches) for j in words) / len(words)
    return to_text, to_image, {j: max(patches, key=lambda k: cosine[k, j]) for j in words}


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patches, tokens and their masks; every row has another number of what counts, and one has gaps."""
    image_mask = torch.arange(PATCHES) >= torch.tensor([0, 1, 2, 1]).unsqueeze(1)
    text_mask = word_mask(torch.arange(TOKENS) < torch.tensor([5, 4, 3, 5]).unsqueeze(1))
    text_mask[3, 2] = False
    return tokens(0, IMAGES, PATCHES), tokens(1, TEXTS, TOKENS), image_mask, text_mask


def places(mask: torch.Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def test_scores_of_pairs(batch: Any) -> None:
    """Mean over patches of the best word, mean over words of the best patch; what does not count is in neither."""
    images, texts, image_mask, text_mask = batch
    to_text, to_image = score_pairs(images, texts, image_mask, text_mask)
    for k in range(IMAGES):
        first, second, _ = pair(images[k], texts[k], places(image_mask[k]), places(text_mask[k]))
        assert (to_text[k].item(), to_image[k].item()) == pytest.approx((first, second), abs=1e-6)


@pytest.mark.parametrize("max_elements", [1, 31, 100, 2**24])
def test_scores_of_all_pairs(batch: Any, max_elements: int) -> None:
    """Every picture with every text, whatever the size of the blocks, and with other numbers of each."""
    images, texts, image_mask, text_mask = batch
    texts, text_mask = texts[:3], text_mask[:3]
    to_text, to_image = score_all_pairs(images, texts, image_mask, text_mask, max_elements)
    assert to_text.shape == to_image.shape == (4, 3)
    for k in range(4):
        for j in range(3):
            first, second, _ = pair(images[k], texts[j], places(image_mask[k]), places(text_mask[j]))
            assert (to_text[k, j].item(), to_image[k, j].item()) == pytest.approx((first, second), abs=1e-6)


def test_pairs_are_the_diagonal_of_all(batch: Any) -> None:
    images, texts, image_mask, text_mask = batch
    for own, every in zip(
        score_pairs(images, texts, image_mask, text_mask), score_all_pairs(*batch, max_elements=50), strict=True
    ):
        torch.testing.assert_close(own, every.diagonal())


def test_pictures_and_texts_may_change_places(batch: Any) -> None:
    """(73) and (74) are each other's mirror; the two scores are not equal."""
    images, texts, image_mask, text_mask = batch
    to_text, to_image = score_pairs(images, texts, image_mask, text_mask)
    mirrored = score_pairs(texts, images, text_mask, image_mask)
    torch.testing.assert_close(mirrored, (to_image, to_text))
    assert not torch.allclose(to_text, to_image)
    to_text, to_image = score_all_pairs(images, texts, image_mask, text_mask)
    back_to_image, back_to_text = score_all_pairs(texts, images, text_mask, image_mask)
    torch.testing.assert_close((back_to_text.t(), back_to_image.t()), (to_text, to_image))


def test_what_does_not_count_may_hold_anything(batch: Any) -> None:
    """Class tokens, ends and padding, even NaN, change no score."""
    images, texts, image_mask, text_mask = batch
    expected = (*score_pairs(*batch), *score_all_pairs(*batch))
    images[~image_mask], texts[~text_mask] = float("nan"), float("nan")
    torch.testing.assert_close((*score_pairs(*batch), *score_all_pairs(*batch)), expected)


def test_match_is_the_best_patch_of_the_own_picture(batch: Any) -> None:
    """Equation (72), among the patches that count."""
    images, texts, image_mask, text_mask = batch
    found = match_patches(images, texts, image_mask)
    assert found.shape == (4, 5)
    for k in range(4):
        _, _, best = pair(images[k], texts[k], places(image_mask[k]), places(text_mask[k]))
        assert {j: int(found[k, j]) for j in best} == best


@pytest.mark.parametrize("way", [0, 1])
def test_gradient_goes_to_the_winners(way: int) -> None:
    """With unit vectors along the axes: a patch that wins no word gets none from s^t2i, nor a word from s^i2t."""
    images = torch.eye(3).unsqueeze(0).requires_grad_()
    texts = torch.tensor([[[0.8, 0.6, 0.0], [0.6, 0.8, 0.0]]]).requires_grad_()
    score_pairs(images, texts)[way].sum().backward()
    alone = images.grad.clone()
    images.grad = texts.grad = None
    score_all_pairs(images, texts, max_elements=6)[way].sum().backward()
    torch.testing.assert_close(images.grad, alone)
    if way == 1:
        assert alone[0, :2].abs().sum() > 0
        assert (alone[0, 2] == 0).all()


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor held that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("grad", [False, True])
def test_memory_is_bounded(grad: bool) -> None:
    """No tensor exceeds the limit, forth or back, where all cosines at once are 24 times that."""
    images, texts = tokens(2, 12, 10).requires_grad_(grad), tokens(3, 9, 8)
    limit = 12 * 9 * 10 * 8 // 24
    with Largest() as largest:
        to_text, to_image = score_all_pairs(images, texts, max_elements=limit)
        if grad:
            (to_text.sum() + to_image.sum()).backward()
    assert max(images.numel(), texts.numel()) <= largest.elements <= limit


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ([1, 1, 1, 1, 0], [0, 1, 1, 0, 0]),
        ([0, 1, 1, 1, 1], [0, 0, 1, 1, 0]),
        ([1, 1, 1, 1, 1], [0, 1, 1, 1, 0]),
        ([1, 1, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([1, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_words_are_neither_first_nor_last_nor_padding(attention: list[int], expected: list[int]) -> None:
    """The thesis leaves out class token, end and padding; padding may stand on either side."""
    assert word_mask(torch.tensor([attention]))[0].int().tolist() == expected


def test_refuses_what_has_no_score(batch: Any) -> None:
    """A mean over nothing is NaN, and one NaN makes a whole ranking wrong."""
    images, texts, image_mask, text_mask = batch
    text_mask[2] = False
    for scores in (score_pairs, score_all_pairs):
        with pytest.raises(ValueError, match="text_mask leaves nothing in row 2"):
            scores(images, texts, image_mask, text_mask)
        with pytest.raises(ValueError, match="image_mask leaves nothing in row 0"):
            scores(images, texts, torch.zeros(IMAGES, PATCHES))


def test_refuses_other_shapes() -> None:
    images, texts = tokens(0, 4, 6), tokens(1, 4, 5)
    with pytest.raises(ValueError, match="row k to row k"):
        score_pairs(images, texts[:1])
    with pytest.raises(ValueError, match="row k to row k"):
        match_patches(images, texts[:1])
    with pytest.raises(ValueError, match=r"must be \(batch, patches, dim\)"):
        score_all_pairs(images[0], texts)
    with pytest.raises(ValueError, match=r"must be \(batch, patches, dim\)"):
        score_all_pairs(images, texts[..., :2])
    with pytest.raises(ValueError, match=r"text_mask has shape \(4, 1\)"):
        score_pairs(images, texts, text_mask=torch.ones(4, 1))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        score_all_pairs(images, texts, max_elements=0)
    with pytest.raises(ValueError, match=r"must be \(batch, tokens\)"):
        word_mask(torch.ones(3))
