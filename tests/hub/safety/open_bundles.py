"""Open bundles in a process of its own and say, a line each, what came of it. A crash ends the lines.

Usage: python open_bundles.py FOLDER...   Memory is held to 4 GiB, so that a graph that asks for more fails here.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from PIL import Image

from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime import OnnxStudent

MEMORY = 4 << 30


def outcome(folder: str) -> dict[str, str]:
    """Open, embed, caption."""
    picture = Image.new("RGB", (40, 40), "red")
    try:
        student = OnnxStudent.from_pretrained(folder, threads=1)
        student.embed_images([picture])
        student.embed_texts(["a red circle"])
        student.caption([picture], max_new_tokens=2)
    except VlkdError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        return {"unexpected": type(error).__name__, "message": str(error)}
    return {"answered": "yes"}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for folder in sys.argv[1:]:
        print(json.dumps({"name": Path(folder).name, **outcome(folder)}), flush=True)


if __name__ == "__main__":
    main()
