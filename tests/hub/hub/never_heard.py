"""An S-SMKE student in a process that cannot import vlkd_hub.

Usage: python never_heard.py FOLDER PICTURE, prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys

import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor


def main(folder: str, picture: str) -> None:
    sys.modules["vlkd_hub"] = None  # type: ignore[assignment]  # any `import vlkd_hub` raises from here on
    trust = {"trust_remote_code": True}
    processor = AutoProcessor.from_pretrained(folder, **trust)
    inputs = processor(
        images=Image.open(picture).convert("RGB"), text=["a red circle", "two dogs"], padding=True, return_tensors="pt"
    )
    found = {"classes": [type(processor).__name__, type(AutoConfig.from_pretrained(folder, **trust)).__name__]}
    found["modules"] = [type(processor).__module__]
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        model = auto.from_pretrained(folder, **trust).eval()
        found["modules"].append(type(model).__module__)
        with torch.no_grad():
            output = model(**inputs)
            found[auto.__name__] = [output.image_embeds[0].tolist(), output.text_embeds[0].tolist()]
            found["logits"] = output.logits_per_image[0].tolist()
            found["tokens"] = model.get_image_tokens(inputs["pixel_values"])[0].tolist()
            found["attention"] = model.get_image_attention(inputs["pixel_values"])[0].tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
