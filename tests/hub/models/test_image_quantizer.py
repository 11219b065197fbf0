"""The image vector quantizer: choice, gradient, moving codebook, usage, and that it learns clusters."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from vlkd_hub.models.smke.configuration_image_quantizer import ImageQuantizerConfig
from vlkd_hub.models.smke.image_codebook import ImageCodebook, codebook_usage
from vlkd_hub.models.smke.modeling_image_quantizer import ImageQuantizerModel

WIDTH, PATCHES = 16, 5


def quantizer(**changes: object) -> ImageQuantizerModel:
    torch.manual_seed(0)
    values = {"hidden_size": WIDTH, "code_size": 4, "codebook_size": 8, "num_attention_heads": 2}
    return ImageQuantizerModel(ImageQuantizerConfig(**(values | changes)))


def pictures(count: int, seed: int = 1, width: int = WIDTH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator), torch.randn(count, PATCHES, width, generator=generator)


def test_the_defaults_are_table_30() -> None:
    config = ImageQuantizerConfig()
    assert (config.codebook_size, config.code_size, config.ema_decay) == (1024, 16, 0.99)
    assert (config.mask_probability, config.num_decoder_layers, config.hidden_size) == (0.9, 1, 768)


def test_chooses_the_closest_by_cosine() -> None:
    """Equation (86) with argmax over the J prototypes; lengths do not count, and argmin would take the opposite."""
    book = ImageCodebook(3, 2)
    book.prototypes.copy_(torch.tensor([[9.0, 0.0], [0.0, 0.1], [-1.0, 0.0]]))
    assert book.choose(torch.tensor([[1.0, 0.9], [0.1, 5.0], [-3.0, 2.0]])).tolist() == [0, 1, 2]


def test_the_codebook_moves_as_equation_90_says() -> None:
    """Closed form for two steps; the prototype that nothing chose stays to the bit."""
    book = ImageCodebook(3, 2, decay=0.9, init="random")
    start = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    book.prototypes.copy_(start)
    vectors, codes = torch.tensor([[2.0, 1.0], [4.0, -1.0], [0.0, 6.0]]), torch.tensor([0, 0, 1])
    for _ in range(2):
        book.update(vectors, codes)
    means = torch.tensor([[3.0, 0.0], [0.0, 6.0]])
    torch.testing.assert_close(book.prototypes[:2], 0.9**2 * start[:2] + (1 - 0.9**2) * means)
    assert torch.equal(book.prototypes[2], start[2])


def test_the_gradient_goes_straight_through() -> None:
    """What reaches q_m is copied to h W_down, bypassing the choice; the value is q_m's own."""
    model = quantizer(mask_probability=1.0).eval()
    classes, patches = pictures(3)
    seen: dict[str, torch.Tensor] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen["through"] = inputs[0]
        inputs[0].retain_grad()

    model.up.register_forward_pre_hook(note)
    found = model(teacher_cls=classes, teacher_patches=patches)
    found.projected.retain_grad()
    found.reconstruction.square().sum().backward()
    torch.testing.assert_close(seen["through"], model.codebook.prototypes[found.codes])
    assert torch.equal(found.projected.grad, seen["through"].grad)
    assert model.down.weight.grad is not None and model.down.weight.grad.abs().sum() > 0
    assert not model.codebook.prototypes.requires_grad and not found.prototypes.requires_grad


def test_only_training_moves_the_codebook_and_the_loss_sees_it_before_that() -> None:
    model = quantizer(codebook_init="random")
    classes, patches = pictures(6)
    before = model.codebook.prototypes.clone()
    model.eval()(teacher_cls=classes, teacher_patches=patches)
    assert torch.equal(model.codebook.prototypes, before)
    found = model.train()(teacher_cls=classes, teacher_patches=patches)
    assert not torch.equal(model.codebook.prototypes, before)
    assert torch.equal(found.prototypes, before[found.codes])


def test_encode_is_what_forward_chooses() -> None:
    model = quantizer().eval()
    classes, patches = pictures(6)
    codes = model.encode(classes)
    assert codes.shape == (6,) and torch.equal(codes, model(teacher_cls=classes, teacher_patches=patches).codes)


def test_the_first_batch_places_the_prototypes_once() -> None:
    """k-means by direction has come to rest: each prototype is the mean of the rows that choose it."""
    book = ImageCodebook(4, 4)
    rows = (3 * torch.eye(4)).repeat(10, 1) + 0.05 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    book.start(rows)
    codes = book.choose(rows)
    for code in codes.unique().tolist():
        torch.testing.assert_close(book.prototypes[code], rows[codes == code].mean(dim=0))
    assert len(codes.unique()) >= 3
    placed = book.prototypes.clone()
    book.start(rows + 1)
    assert torch.equal(book.prototypes, placed)


def test_more_prototypes_than_rows_are_all_different() -> None:
    """A batch is smaller than 8,192 prototypes; equal ones could never be told apart."""
    book = ImageCodebook(9, 4)
    book.start(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    assert len(book.prototypes.unique(dim=0)) == 9


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (1.0, 1, 1), (0.9, 0.87, 0.93)])
def test_masks_the_share_of_patches(share: float, low: float, high: float) -> None:
    """Equation (87): each patch alone becomes the mask token with probability p."""
    model = quantizer(mask_probability=share)
    patches = torch.randn(40, 50, WIDTH)
    masked = (model._masked(patches) == model.mask_token).all(dim=-1).float().mean().item()
    assert low <= masked <= high


def test_other_widths_of_patches_and_decoder() -> None:
    model = quantizer(patch_hidden_size=6, decoder_hidden_size=8)
    classes, patches = pictures(3, width=6)
    assert model(teacher_cls=classes, teacher_patches=patches).reconstruction.shape == (3, WIDTH)


def test_saved_and_loaded_to_the_bit(tmp_path: Path) -> None:
    """The codebook is state that no gradient made: it must come back with the weights, and not be placed again."""
    model = quantizer()
    classes, patches = pictures(12)
    model.train()(teacher_cls=classes, teacher_patches=patches)
    model.save_pretrained(tmp_path)
    again = ImageQuantizerModel.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert bool(again.codebook.initialized)
    assert torch.equal(again.encode(classes), model.encode(classes))


def test_usage_in_closed_form() -> None:
    """Four prototypes with an equal share of the pictures: perplexity 4."""
    even = codebook_usage(torch.tensor([0, 1, 2, 3] * 5), 8)
    assert (even.pictures, even.used, even.share, even.collapsed) == (20, 4, 0.5, False)
    assert even.perplexity == pytest.approx(4.0)
    skewed = codebook_usage(torch.tensor([0, 0, 0, 5]), 8)
    assert skewed.perplexity == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


def test_a_collapse_is_named() -> None:
    """One prototype for all pictures, or a few of 1,024; a small but even use of a small codebook is none."""
    assert codebook_usage(torch.zeros(100, dtype=torch.long), 8).collapsed
    few = torch.arange(1000) % 20
    assert codebook_usage(few, 1024).collapsed
    assert not codebook_usage(few, 64).collapsed
    assert not codebook_usage(torch.arange(1000), 1024).collapsed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ImageQuantizerConfig(codebook_size=1), "at least 2 prototypes"),
        (lambda: ImageQuantizerConfig(mask_probability=1.5), "share between 0 and 1"),
        (lambda: ImageQuantizerConfig(ema_decay=1.0), "below 1, got 1.0"),
        (lambda: ImageQuantizerConfig(codebook_init="best"), "'kmeans' or 'random', got 'best'"),
        (lambda: ImageQuantizerConfig(hidden_size=10, num_attention_heads=4), "no multiple of its 4 heads"),
        (lambda: quantizer()(torch.ones(2, 3), torch.ones(2, 5, WIDTH)), r"must be .batch, 16., got .2, 3."),
        (lambda: quantizer()(torch.ones(2, WIDTH), torch.ones(2, WIDTH)), r"must be .batch, patches, 16."),
        (lambda: codebook_usage(torch.zeros(0, dtype=torch.long), 8), "measured over codes"),
        (lambda: codebook_usage(torch.tensor([8]), 8), "run from 0 to 7, got 8 to 8"),
    ],
)
def test_refuses(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
