"""This server beside infinity-emb, on pictures, in turns on the same processors.

    python benchmarks/infinity_side_by_side.py BUNDLE --env FOLDER

infinity-emb wants other versions of transformers and numpy, so it gets an environment of its own in FOLDER (made at the
first run: some GB, from the package index that pip is configured with), with a CLIP of random weights of the sizes that
`benchmarks/random_clip.py` takes. What is fetched is packages; no model. Everything after ``--`` goes to
`vlkd bench serve`, which makes the comparison:

    python benchmarks/infinity_side_by_side.py BUNDLE --env FOLDER -- --rounds 7 --json infinity.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from vlkd_serving.bench_serve.processes import free_port, running

PACKAGES = ("infinity-emb[server,torch,vision]==0.0.78", "aiohttp")
"""Pictures need aiohttp, which its extra `vision` does not bring."""
SIZES = {"layers": 2, "width": 384, "image-size": 160, "patch": 16}


def environment(folder: Path) -> Path:
    """The folder of programs of an environment with infinity-emb; made where it is not there."""
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    if not (programs / "infinity_emb").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        subprocess.run([str(programs / "python"), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return programs


def write_model(programs: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """A CLIP of random weights in ``folder``, written by the transformers that will load it."""
    model = folder / "-".join(["clip", *(f"{name}{value}" for name, value in sizes.items())])
    if not (model / "config.json").exists():
        script = Path(__file__).with_name("random_clip.py")
        options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        subprocess.run([str(programs / "python"), str(script), str(model), *options], check=True)
    return model


def server_command(programs: Path, model: Path, port: int, batch: int) -> list[str]:
    """infinity-emb as its documentation starts it, on the CPU."""
    options = {"--model-id": str(model), "--port": str(port), "--batch-size": str(batch)}
    fixed = ["--engine", "torch", "--device", "cpu", "--host", "127.0.0.1", "--log-level", "error"]
    return [str(programs / "infinity_emb"), "v2", *fixed, *(word for pair in options.items() for word in pair)]


def main() -> int:
    """Set up, run both, stop."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="what `vlkd export` wrote")
    parser.add_argument("--env", type=Path, required=True, help="folder for infinity-emb and its model")
    parser.add_argument("--batch", type=int, default=16, help="most pictures of a batch, as of this server")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="see benchmarks/random_clip.py")
    given, rest = parser.parse_known_args()
    sizes = {name: getattr(given, name.replace("-", "_")) for name in SIZES}
    os.environ |= {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    programs = environment(given.env.absolute())
    model = write_model(programs, given.env.absolute(), sizes)
    port = free_port()
    with running(server_command(programs, model, port, given.batch), port, ready="/health") as server:
        bench = [sys.executable, "-m", "vlkd_hub.cli", "bench", "serve", str(given.bundle)]
        options = [word for word in rest if word != "--"]
        return subprocess.run([*bench, "--against", f"infinity={server.url}", *options]).returncode


if __name__ == "__main__":
    sys.exit(main())
