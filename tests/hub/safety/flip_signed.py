"""Flip one byte of a bundle, sign it anew, open it and let it answer; a line for each. A crash ends the lines.

Usage: python flip_signed.py BUNDLE WORK COUNT
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

from open_bundles import outcome

from vlkd_hub.bundle import read_manifest, write_manifest

FILES = (
    "onnx/image_encoder.onnx",
    "onnx/text_encoder.onnx",
    "onnx/cross_attention.onnx",
    "onnx/decoder.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
)


def main() -> None:
    bundle, work, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    shutil.copytree(bundle, work)
    manifest = read_manifest(bundle)
    draw = random.Random(1)
    for _ in range(count):
        path = work / draw.choice(FILES)
        good = path.read_bytes()
        # Weights fill most of a graph and a changed weight is only another number: look at both ends, where names,
        # shapes and operators stand.
        reach = draw.choice((len(good), min(len(good), 4000)))
        position = draw.randrange(reach) if draw.random() < 0.5 else len(good) - 1 - draw.randrange(reach)
        flip = draw.randrange(1, 256)
        path.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        write_manifest(work, manifest)
        found = outcome(str(work))
        print(json.dumps({"file": path.name, "position": position, "flip": flip, **found}), flush=True)
        path.write_bytes(good)


if __name__ == "__main__":
    main()
