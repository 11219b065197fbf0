"""Memory banks: what is kept, what goes, and that a saved bank comes back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlkd_training.losses import ExampleBank, MemoryBank


def rows_of(start: int, count: int, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Row number n is n, n, n and shows picture 100 + n."""
    numbers = torch.arange(start, start + count)
    return numbers.float().unsqueeze(1).expand(-1, width).clone(), numbers + 100


def numbers_in(bank: MemoryBank) -> list[int]:
    rows, ids = bank.valid()
    assert torch.equal(rows[:, 0].long() + 100, ids), "an id belongs to another row"
    return (ids - 100).tolist()


def test_the_oldest_rows_go_first() -> None:
    """Three pushes of 2 into 5 places: the first row is overwritten in the middle of a push, across the end."""
    bank = MemoryBank(5, 3)
    assert numbers_in(bank) == []
    bank.push(*rows_of(0, 2))
    assert numbers_in(bank) == [0, 1]
    bank.push(*rows_of(2, 2))
    bank.push(*rows_of(4, 2))
    assert numbers_in(bank) == [1, 2, 3, 4, 5]
    assert len(bank) == 5
    bank.push(*rows_of(6, 3))
    assert numbers_in(bank) == [4, 5, 6, 7, 8]


def test_a_batch_larger_than_the_bank_leaves_its_last_rows() -> None:
    bank = MemoryBank(4, 3)
    bank.push(*rows_of(0, 1))
    bank.push(*rows_of(1, 9))
    assert numbers_in(bank) == [6, 7, 8, 9]
    bank.push(*rows_of(10, 1))
    assert numbers_in(bank) == [7, 8, 9, 10]


def test_a_bank_saved_in_the_middle_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Not full, then full and past its end: rows, ids, place and fill all matter to what comes next."""
    torch.manual_seed(0)
    batches = [(torch.randn(3, 4), torch.randint(0, 9, (3,))) for _ in range(7)]
    for stop in (2, 5):
        unbroken, first, second = (MemoryBank(7, 4) for _ in range(3))
        for batch in batches:
            unbroken.push(*batch)
        for batch in batches[:stop]:
            first.push(*batch)
        save_file(first.state_dict(), tmp_path / "bank.safetensors")
        second.load_state_dict(load_file(tmp_path / "bank.safetensors"))
        for batch in batches[stop:]:
            second.push(*batch)
        for name, value in unbroken.state_dict().items():
            assert torch.equal(second.state_dict()[name], value), name
        assert all(torch.equal(a, b) for a, b in zip(second.valid(), unbroken.valid(), strict=True))


def test_a_push_before_backward_changes_no_gradient() -> None:
    """The method pushes in its forward pass, and backward comes after that: the rows must be copies."""
    bank, query = MemoryBank(4, 3), torch.ones(1, 3, requires_grad=True)
    bank.push(*rows_of(0, 4))
    rows, _ = bank.valid()
    loss = (query @ rows.t()).sum()
    bank.push(*rows_of(50, 4))
    loss.backward()
    assert query.grad is not None and query.grad.tolist() == [[6.0, 6.0, 6.0]]


def test_gradients_do_not_enter_the_bank() -> None:
    bank, rows = MemoryBank(4, 3), torch.ones(2, 3, requires_grad=True)
    bank.push(rows * 2, torch.arange(2))
    assert not bank.valid()[0].requires_grad


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (torch.ones(2, 4), torch.arange(2), r"width 3 takes rows \(batch, 3\)"),
        (torch.ones(2, 3), torch.arange(1), r"one id each"),
        (torch.ones(3), torch.arange(3), r"takes rows"),
        (torch.full((2, 3), float("nan")), torch.arange(2), "Rows for the bank hold NaN"),
    ],
)
def test_refuses(rows: torch.Tensor, ids: torch.Tensor, message: str) -> None:
    for store in (MemoryBank(4, 3).push, ExampleBank(4, 3).update):
        with pytest.raises(ValueError, match=message):
            store(rows, ids)


def test_refuses_a_bank_of_nothing() -> None:
    with pytest.raises(ValueError, match="size of a memory bank must be at least 1, got 0"):
        MemoryBank(0, 3)
    with pytest.raises(ValueError, match="examples of a memory bank"):
        ExampleBank(0, 3)


def test_an_example_has_one_slot() -> None:
    """Equation (69): v^(t-1) is what the same example left at its last visit; of two rows the later one."""
    bank = ExampleBank(6, 3)
    bank.update(*(rows_of(1, 2)[0], torch.tensor([4, 2])))
    bank.update(torch.tensor([[7.0] * 3, [8.0] * 3, [9.0] * 3]), torch.tensor([2, 5, 2]))
    stored, seen = bank.stored(torch.tensor([2, 4, 5, 0]))
    assert stored[:, 0].tolist() == [9.0, 1.0, 8.0, 0.0]
    assert seen.tolist() == [True, True, True, False]


def test_draws_only_written_slots_each_once() -> None:
    torch.manual_seed(0)
    bank = ExampleBank(50, 3)
    numbers = torch.tensor([3, 8, 20, 41])
    bank.update(numbers.float().unsqueeze(1).expand(-1, 3), numbers)
    rows, drawn = bank.draw(3)
    assert torch.equal(rows[:, 0].long(), drawn)
    assert len(set(drawn.tolist())) == 3 and set(drawn.tolist()) <= set(numbers.tolist())
    assert sorted(bank.draw(10)[1].tolist()) == numbers.tolist()
    often = torch.bincount(torch.cat([bank.draw(1)[1] for _ in range(400)]), minlength=50)
    assert often[numbers].min() > 60, "equal chances"


def test_an_example_bank_refuses_numbers_without_a_slot() -> None:
    bank = ExampleBank(4, 3)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="numbered 0 to 3 in this bank"):
            bank.update(torch.ones(1, 3), torch.tensor([wrong]))
        with pytest.raises(ValueError, match="numbered 0 to 3 in this bank"):
            bank.stored(torch.tensor([wrong]))


def test_state_travels_inside_a_module() -> None:
    """A method holds its banks; its own state_dict is what a checkpoint keeps."""
    method = nn.Module()
    method.bank = MemoryBank(2, 3)
    method.bank.push(*rows_of(0, 1))
    assert {"bank.rows", "bank.ids", "bank.position", "bank.filled"} == set(method.state_dict())
