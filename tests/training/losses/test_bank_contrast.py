"""The contrast with a memory bank, against a loop in numpy and against two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vlkd_training.losses import BankContrastLoss, ITCLLoss

SCALE = torch.tensor(5.0)


def unit(seed: int, rows: int, dim: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=-1)


def one_way(queries: np.ndarray, ids: list[int], keys: np.ndarray, key_ids: list[int]) -> float:
    """-log of the own key's share, over the keys that show another picture; own keys come first."""
    total = 0.0
    for row, query in enumerate(queries):
        others = [place for place, picture in enumerate(key_ids) if place == row or picture != ids[row]]
        scores = 5.0 * keys[others] @ query
        total -= scores[others.index(row)] - np.log(np.exp(scores).sum())
    return total / len(queries)


def reference(images, texts, ids, image_keys, text_keys, image_bank, text_bank) -> float:
    both = []
    for queries, keys, (rows, row_ids) in ((images, text_keys, text_bank), (texts, image_keys, image_bank)):
        all_keys = np.concatenate([keys.numpy(), rows.numpy()])
        both.append(one_way(queries.numpy(), ids.tolist(), all_keys, [*ids.tolist(), *row_ids.tolist()]))
    return sum(both) / 2


IMAGES, TEXTS, IDS = unit(0, 4), unit(1, 4), torch.tensor([7, 7, 1, 2])
IMAGE_BANK = unit(2, 6), torch.tensor([3, 7, 2, 9, 9, 4])
TEXT_BANK = unit(3, 5), torch.tensor([1, 5, 6, 7, 8])


def test_batch_and_bank_are_the_candidates_less_the_same_picture() -> None:
    """B + U - 1 negatives where all pictures differ; rows 0 and 1 and three bank entries share a picture here."""
    found = BankContrastLoss()(IMAGES, TEXTS, SCALE, IDS, image_bank=IMAGE_BANK, text_bank=TEXT_BANK)
    expected = reference(IMAGES, TEXTS, IDS, IMAGES, TEXTS, IMAGE_BANK, TEXT_BANK)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_momentum_vectors_take_the_place_of_all_candidates() -> None:
    """MoCo and ALBEF: positives and negatives are the momentum encoder's, and no gradient reaches them."""
    image_keys, text_keys = unit(4, 4).requires_grad_(), unit(5, 4).requires_grad_()
    images, texts = IMAGES.clone().requires_grad_(), TEXTS.clone().requires_grad_()
    options = {"image_bank": IMAGE_BANK, "text_bank": TEXT_BANK}
    found = BankContrastLoss()(
        images, texts, SCALE, IDS, image_candidates=image_keys, text_candidates=text_keys, **options
    )
    expected = reference(IMAGES, TEXTS, IDS, image_keys.detach(), text_keys.detach(), IMAGE_BANK, TEXT_BANK)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    found.backward()
    assert image_keys.grad is None and text_keys.grad is None
    assert images.grad is not None and texts.grad is not None and images.grad.abs().sum() > 0


def test_without_a_bank_it_is_the_plain_contrast() -> None:
    """The banks are empty at the first step."""
    nothing = torch.zeros(0, 8), torch.zeros(0, dtype=torch.long)
    plain = ITCLLoss()(IMAGES, TEXTS, SCALE, IDS)
    for options in ({}, {"image_bank": nothing, "text_bank": nothing}):
        assert BankContrastLoss()(IMAGES, TEXTS, SCALE, IDS, **options).item() == pytest.approx(plain.item(), rel=1e-6)


def test_rows_are_normalised_here() -> None:
    """The shared layers' outputs are raw; a long vector must not be a larger logit."""
    bank = IMAGE_BANK[0] * 3, IMAGE_BANK[1]
    plain = BankContrastLoss()(IMAGES, TEXTS, SCALE, IDS, image_bank=IMAGE_BANK, text_bank=TEXT_BANK)
    longer = BankContrastLoss()(2 * IMAGES, TEXTS * 5, SCALE, IDS, image_bank=bank, text_bank=TEXT_BANK)
    assert longer.item() == pytest.approx(plain.item(), rel=1e-6)


def test_one_pair_learns_from_a_bank_alone() -> None:
    """A batch of one has no negative; with a bank it has."""
    one = BankContrastLoss()(IMAGES[:1], TEXTS[:1], SCALE, IDS[:1], image_bank=IMAGE_BANK, text_bank=TEXT_BANK)
    assert one.item() > 0
    with pytest.raises(ValueError, match="needs at least 2 candidates, got 1"):
        BankContrastLoss()(IMAGES[:1], TEXTS[:1], SCALE, IDS[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_bank": IMAGE_BANK}, "banks of both"),
        ({"image_candidates": IMAGES}, "momentum vectors of both"),
        ({"image_bank": IMAGE_BANK, "text_bank": (torch.ones(3, 4), torch.arange(3))}, "must be .entries, 8."),
        ({"image_bank": IMAGE_BANK, "text_bank": (TEXT_BANK[0], torch.arange(3))}, "ids"),
        ({"image_candidates": IMAGES[:2], "text_candidates": TEXTS}, "Momentum pictures have shape"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BankContrastLoss()(IMAGES, TEXTS, SCALE, IDS, **options)


def test_refuses_a_bank_without_ids() -> None:
    """Without them the bank's copy of the query's own picture would be pushed away."""
    with pytest.raises(ValueError, match="needs image_ids"):
        BankContrastLoss()(IMAGES, TEXTS, SCALE, image_bank=IMAGE_BANK, text_bank=TEXT_BANK)


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"Pictures have shape \(4, 8\) and captions \(3, 8\)"):
        BankContrastLoss()(IMAGES, TEXTS[:3], SCALE, IDS)


@pytest.mark.slow
def test_two_processes_give_what_one_gives_with_the_doubled_batch(tmp_path: Path) -> None:
    """Losses, gradients, banks and codebook of three steps, gloo on the CPU; see bank_worker.py."""
    worker = Path(__file__).with_name("bank_worker.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(rank: int, world: int) -> subprocess.Popen[str]:
        line = [sys.executable, str(worker), str(tmp_path / f"store-{world}"), str(rank), str(world), str(tmp_path)]
        return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)

    for child in [start(0, 2), start(1, 2), start(0, 1)]:
        _, said = child.communicate(timeout=120)
        assert child.returncode == 0, said[-3000:]
    one = torch.load(tmp_path / "end-0-of-1.pt", weights_only=True)
    first, second = (torch.load(tmp_path / f"end-{rank}-of-2.pt", weights_only=True) for rank in (0, 1))
    assert set(one) == set(first) and len(one) > 10
    for name, value in one.items():
        mean = (first[name] + second[name]) / 2 if name.startswith(("loss", "gradient")) else first[name]
        torch.testing.assert_close(mean, value, atol=1e-5, rtol=0, msg=lambda text, n=name: n + ": " + text)
        if not name.startswith(("loss", "gradient")):
            assert torch.equal(first[name], second[name]), f"the processes' {name} differ"
