"""One training step of every variant of S-SMKE at the thesis's own size: 6 + 6 + 1 layers, 768 wide."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig

from vlkd_hub.models.smke import SmkeConfig, SmkeImageConfig, SmkeModel
from vlkd_training.methods import SmkeMethod

from .toy_smke import VARIANTS

ROWS, PATCHES, WIDTH = 3, 196, 768
LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072}
HEADS = {"classes": 1000, "codes": 1024}
"""Width of the head; else the teacher's own, 768."""
SIZES = {"itm_size": 144, "cmli_size": 32}
"""What the toy makes smaller."""


def student(fields: dict, head: int) -> SmkeModel:
    vit = {"model_type": "vit", **LAYERS, "image_size": 224, "patch_size": 16}
    image = SmkeImageConfig(backbone_type="hf", backbone_name=None, backbone_config=vit, hidden_size=WIDTH)
    values = {"hidden_size": WIDTH, "intermediate_size": 3072, "num_attention_heads": 12, "head_size": head}
    sizes = {name: SIZES.get(name, value) for name, value in fields.items()}
    return SmkeModel(SmkeConfig(image_config=image, text_config=BertConfig(**LAYERS), **(values | sizes)))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_at_paper_size(seeded: None, variant: str) -> None:
    """Finite parts, a gradient in both encoders and in the shared one, and AdamW moves them."""
    fields, options = VARIANTS[variant]
    head = HEADS.get(options["target"], WIDTH)
    model = student(fields, head)
    config = model.config
    widths = (config.intermediate_size, config.hidden_size, config.head_size)
    method = SmkeMethod(**options, layers=tuple(config.contrast_layers), widths=widths)
    ids = torch.randint(1000, 2000, (ROWS, 64))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(ROWS, 3, 224, 224),
        "teacher_logits": torch.randn(ROWS, head),
        "teacher_cls": torch.randn(ROWS, head),
        "teacher_patches": torch.randn(ROWS, PATCHES, head),
        "teacher_codes": torch.randint(head, (ROWS,)),
        "image_ids": torch.arange(ROWS),
        "row": torch.arange(ROWS),
    }
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)
    batch = method.prepare(model, batch)
    parts = method(model(**method.wanted(batch), **method.student_options), batch)
    assert all(torch.isfinite(value) for value in parts.values())
    torch.stack(list(parts.values())).sum().backward()
    watched = {
        "image": model.image_encoder.backbone.layers[0].attention.q_proj.weight,
        "text": model.text_encoder.encoder.layer[0].attention.self.query.weight,
        "shared": model.shared_encoder.fc1.weight,
    }
    before = {name: value.detach().clone() for name, value in watched.items()}
    optimizer.step()
    for name, value in watched.items():
        assert value.grad is not None and value.grad.abs().max() > 0, name
        assert not torch.equal(value, before[name]), name
