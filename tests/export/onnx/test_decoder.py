"""The decoder written out for export is transformers' BART decoder, at every way of cutting a text into steps."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from vlkd_export.onnx.cross_attention import CrossAttention
from vlkd_export.onnx.decoder import DecoderStep
from vlkd_hub.models import VlkdForConditionalGeneration


@pytest.fixture(scope="module")
def model(tiny_student: Path) -> VlkdForConditionalGeneration:
    """Weights wide enough that attention is not uniform."""
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.mark.parametrize("cuts", [[7], [1] * 7, [3, 4], [1, 5, 1]], ids=str)
@torch.no_grad()
def test_equal_to_transformers_however_the_text_is_cut(model: VlkdForConditionalGeneration, cuts: list[int]) -> None:
    """One graph reads the first token, the next one, or several at once; the mask of the context is kept to."""
    torch.manual_seed(1)
    ids = torch.randint(4, 20, (3, 7))
    context = torch.randn(3, 6, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1]])
    hidden = model.decoder(input_ids=ids, encoder_hidden_states=context, encoder_attention_mask=mask).last_hidden_state
    expected = model.lm_head(hidden)
    cross, step = list(CrossAttention(model)(context)), DecoderStep(model).eval()
    past, found = [torch.zeros(3, 2, 0, 8) for _ in range(4)], []
    for part in ids.split(cuts, dim=1):
        logits, *past = step(part, mask, torch.ones(3, past[0].shape[2], dtype=torch.int64), cross, past)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-4, rtol=1e-5)
    assert {tuple(tensor.shape) for tensor in past} == {(3, 2, 7, 8)}


@pytest.mark.parametrize("cuts", [[4], [1] * 4, [2, 1, 1]], ids=str)
@torch.no_grad()
def test_rows_at_positions_of_their_own(model: VlkdForConditionalGeneration, cuts: list[int]) -> None:
    """A row whose past is partly padding, whatever stands in it, goes on as if it were alone."""
    torch.manual_seed(2)
    ids, context, mask = torch.randint(4, 20, (3, 7)), torch.randn(3, 6, 16), torch.ones(3, 6, dtype=torch.int64)
    hidden = model.decoder(input_ids=ids, encoder_hidden_states=context, encoder_attention_mask=mask).last_hidden_state
    expected = model.lm_head(hidden)
    cross, step = list(CrossAttention(model)(context)), DecoderStep(model).eval()
    read = [0, 1, 3]  # tokens that each row has behind it
    past, seen = [torch.full((3, 2, 3, 8), 7.0) for _ in range(4)], torch.zeros(3, 3, dtype=torch.int64)
    for row, count in enumerate(read):
        some = slice(row, row + 1)
        alone = step(
            ids[some, :count],
            mask[some],
            torch.zeros(1, 0, dtype=torch.int64),
            [part[some] for part in cross],
            [torch.zeros(1, 2, 0, 8) for _ in range(4)],
        )[1:]
        for whole, part in zip(past, alone, strict=True):
            whole[row, :, 3 - count :] = part[0]
        seen[row, 3 - count :] = 1
    now, found = torch.stack([ids[row, count : count + 4] for row, count in enumerate(read)]), []
    for part in now.split(cuts, dim=1):
        logits, *past = step(part, mask, seen, cross, past)
        seen = torch.cat([seen, torch.ones_like(part)], dim=1)
        found.append(logits)
    wanted = torch.stack([expected[row, count : count + 4] for row, count in enumerate(read)])
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, atol=1e-4, rtol=1e-5)


def test_names_and_axes_of_the_bundle(tiny_bundle: Path) -> None:
    """The runtime and every other reader of the bundle rely on them."""
    axes = {}
    for name in ("image_encoder", "text_encoder", "cross_attention", "decoder"):
        graph = onnx.load(tiny_bundle / "onnx" / f"{name}.onnx").graph
        axes |= {
            f"{name}.{item.name}": [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
            for item in [*graph.input, *graph.output]
        }
    assert axes["image_encoder.pixel_values"] == ["batch", 3, 32, 32]
    assert axes["image_encoder.image_embeds"] == ["batch", 8]
    assert axes["image_encoder.visual_states"] == ["batch", 5, 16]
    assert axes["text_encoder.input_ids"] == axes["text_encoder.attention_mask"] == ["batch", "length"]
    assert axes["text_encoder.text_embeds"] == ["batch", 8]
    assert axes["text_encoder.text_states"] == ["batch", "length", 16]
    assert axes["cross_attention.context"] == ["batch", "context", 16]
    assert axes["cross_attention.cross_value.1"] == ["batch", 2, "context", 8]
    assert axes["decoder.input_ids"] == ["batch", "step"]
    assert axes["decoder.context_mask"] == ["batch", "context"]
    assert axes["decoder.cross_key.0"] == ["batch", 2, "context", 8]
    assert axes["decoder.past_mask"] == ["batch", "past"]
    assert axes["decoder.past_value.1"] == ["batch", 2, "past", 8]
    assert axes["decoder.logits"] == ["batch", "step", 27]
    assert axes["decoder.present_key.0"][:2] == ["batch", 2]
    assert len(axes) == 3 + 4 + 5 + (3 + 4 + 4 + 1 + 4)
