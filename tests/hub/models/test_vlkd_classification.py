"""Labels for texts: what the head sees, and what a saved classifier still can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from vlkd_hub.models import VlkdForConditionalGeneration, VlkdForSequenceClassification

IDS = torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 12, 3, 0, 0]])
MASK = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])


def classifier(folder: Path, num_labels: int = 3) -> VlkdForSequenceClassification:
    """The tiny student with a new head; weights large enough that every token matters."""
    torch.manual_seed(0)
    model = VlkdForSequenceClassification.from_pretrained(folder, num_labels=num_labels).eval()
    with torch.no_grad():
        parts = (model.decoder, model.text_to_decoder, model.vlkd.text_projection, model.classification_head)
        for parameter in (parameter for part in parts for parameter in part.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def test_the_head_reads_the_decoders_last_state(tiny_student: Path) -> None:
    """The same text in encoder and decoder; the state where the text ends, not where the padding does."""
    model = classifier(tiny_student)
    with torch.no_grad():
        both = model(IDS, MASK).logits
        alone = model(IDS[1:, :4]).logits
        student = VlkdForConditionalGeneration.forward(
            model, input_ids=IDS[1:, :4], labels=IDS[1:, :4], labelled_logits_only=False
        )
        hidden = model.decoder(
            input_ids=torch.tensor([[2, 2, 11, 12]]), encoder_hidden_states=student.encoder_last_hidden_state
        ).last_hidden_state
    assert both.shape == (2, 3)
    assert both[1] == pytest.approx(alone[0], abs=1e-5)
    assert alone == pytest.approx(model.classification_head(hidden[:, -1]).detach(), abs=1e-5)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_both_halves_reach_the_label(tiny_student: Path, part: str) -> None:
    """W'_e W_e E and the decoder's own reading: without either the logits are others."""
    model = classifier(tiny_student)
    with torch.no_grad():
        before = model(IDS, MASK).logits
        weight = model.text_to_decoder.weight if part == "encoder" else model.decoder.layers[0].self_attn.v_proj.weight
        weight.zero_()
        assert (model(IDS, MASK).logits - before).abs().max() > 1e-3


def test_losses_of_labels_and_of_scores(tiny_student: Path) -> None:
    """Cross-entropy over labels; squared error where there is one output."""
    model = classifier(tiny_student)
    labels = torch.tensor([2, 0])
    out = model(IDS, MASK, labels=labels)
    assert out.loss.item() == pytest.approx(-out.logits.log_softmax(-1)[[0, 1], labels].mean().item(), rel=1e-5)
    regression = classifier(tiny_student, num_labels=1)
    out = regression(IDS, MASK, labels=torch.tensor([4.5, 0.0]))
    assert out.loss.item() == pytest.approx(
        ((out.logits[0, 0] - 4.5) ** 2 + out.logits[1, 0] ** 2).item() / 2, rel=1e-5
    )


def test_a_saved_classifier_is_still_a_student(tiny_student: Path, tmp_path: Path) -> None:
    """It comes back as it was; loaded as a student, the same weights write and search."""
    model = classifier(tiny_student)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(again) is VlkdForSequenceClassification
    student, found = VlkdForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    with torch.no_grad():
        assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)
    assert set(found["missing_keys"]) <= set(student.all_tied_weights_keys)
    assert torch.equal(student.text_to_decoder.weight, model.text_to_decoder.weight)
    assert student.eval().generate(IDS, attention_mask=MASK, max_new_tokens=2).shape[0] == 2
    with pytest.raises(TypeError, match="Load its folder with VlkdForConditionalGeneration"):
        model.generate(IDS)
