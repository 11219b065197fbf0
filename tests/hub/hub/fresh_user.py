"""What somebody does who has never heard of vlkd-hub. Run by the Python of a second environment.

Usage: python -I fresh_user.py REPO PICTURE WORK FIRST     FIRST is 1 where WORK/tuned is still to be made.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

TRUST = {"trust_remote_code": True}


def caption(processor: Any, model: Any, picture: Image.Image) -> str:
    """The tokens' text, as the card shows it."""
    inputs = processor(images=picture, text=processor.build_prompt("caption"), return_tensors="pt")
    tokens = model.generate(**inputs, **processor.generation_kwargs("caption"))
    return str(processor.post_process_image_text_to_text(tokens)[0])


def tune(processor: Any, model: Any, picture: Image.Image) -> float:
    """One step towards another caption; returns its loss."""
    model.train()
    inputs = processor(images=picture, text=processor.build_prompt("caption"), return_tensors="pt")
    labels = processor.tokenizer("a red circle", return_tensors="pt")["input_ids"]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    optimizer.step()
    model.eval()
    return float(loss)


def vectors(processor: Any, model: Any, picture: Image.Image) -> list[float]:
    inputs = processor(images=picture, text=["a red circle"], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).image_embeds[0].tolist()


def card_answer(repo: str, picture: Path) -> str:
    """Run the card's first block of code beside a photo.png."""
    os.chdir(picture.parent)
    block = re.findall(r"```python\n(.*?)```", Path(hf_hub_download(repo, "README.md")).read_text(), re.DOTALL)[0]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(block, "README.md", "exec"), {})
    return said.getvalue().strip()


def main() -> None:
    repo, picture_path, work, first = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "1"
    picture = Image.open(picture_path).convert("RGB")
    torch.manual_seed(0)
    found: dict[str, Any] = {"has_vlkd_hub": importlib.util.find_spec("vlkd_hub") is not None}
    processor = AutoProcessor.from_pretrained(repo, **TRUST)
    model = AutoModelForImageTextToText.from_pretrained(repo, **TRUST).eval()
    found["caption"] = caption(processor, model, picture)
    found["vectors"] = vectors(processor, AutoModel.from_pretrained(repo, **TRUST).eval(), picture)
    found["classes"] = [f"{type(item).__module__}.{type(item).__name__}" for item in (processor, model)]
    found["card"] = card_answer(repo, picture_path)
    tuned = work / "tuned"
    if first:
        found["loss"] = tune(processor, model, picture)
        model.save_pretrained(tuned)
        processor.save_pretrained(tuned)
        found["tuned_caption"] = caption(processor, model, picture)
    again = AutoModelForImageTextToText.from_pretrained(tuned, **TRUST).eval()
    found["again_caption"] = caption(AutoProcessor.from_pretrained(tuned, **TRUST), again, picture)
    if first:
        pairs = zip(model.state_dict().items(), again.state_dict().items(), strict=True)
        found["same_weights"] = all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)
        found["changed"] = found["vectors"] != vectors(
            processor, AutoModel.from_pretrained(tuned, **TRUST).eval(), picture
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
