"""A CLIP of random weights, for another server to load: what is timed is its work, not its answers.

    python benchmarks/random_clip.py FOLDER --layers 2 --width 384 --image-size 160 --patch 16

Runs where transformers and torch are; nothing is fetched. The defaults make an image encoder of the scenes student's
size: 4 million parameters, pictures of 160 x 160 pixels, 101 tokens of width 384.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

TOKENS = ["<|startoftext|>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"]


def write_clip(folder: Path, layers: int, width: int, image_size: int, patch: int) -> int:
    """Save model and processor as ``from_pretrained`` reads them; returns the parameters of the image encoder.

    Args:
        folder: made if it is not there.
        layers: of the image encoder; the text encoder has one.
        width: of the image encoder, a multiple of 64.
        image_size: side of the pictures, pixels.
        patch: side of a patch, pixels.
    """
    text = {
        "vocab_size": len(TOKENS),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "image_size": image_size,
        "patch_size": patch,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=384))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    pictures = CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    CLIPProcessor(pictures, tokenizer).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.vision_model.parameters())


def main() -> None:
    """Read the sizes, write the folder, print what was made."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--patch", type=int, default=16)
    given = parser.parse_args()
    count = write_clip(given.folder, given.layers, given.width, given.image_size, given.patch)
    print(f"{given.folder}: image encoder of {count / 1e6:.1f} million parameters")


if __name__ == "__main__":
    main()
