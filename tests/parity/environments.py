"""The isolated environments of the official packages, each built once from exact pins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = {
    "image_reward": ("image-reward", "openai-clip", "ftfy", "torchmetrics", "setuptools"),
    "hpsv2": ("hpsv2", "open_clip_torch", "setuptools"),
}
"""by environment; their pins are in the file of that name"""
BPE = "bpe_simple_vocab_16e6.txt.gz"


def build(name: str, root: Path) -> Path:
    """The interpreter of an environment, which is made where it is not there with the present pins."""
    folder, pins = root / name, HERE / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "pins.txt"
    if stamp.is_file() and stamp.read_bytes() == pins.read_bytes():
        return python
    print(f"building {folder}: some gigabytes are downloaded", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _make(folder, python, pins, PACKAGES[name])
    if name == "hpsv2":  # its wheel lacks a file, which its source and open_clip have
        shutil.copy(vocabulary(root), next(folder.glob("lib/python*/site-packages/hpsv2/src/open_clip")))
    shutil.copy(pins, stamp)
    return python


def vocabulary(root: Path) -> Path:
    """CLIP's BPE file, from open_clip."""
    return next((root / "hpsv2").glob(f"lib/python*/site-packages/open_clip/{BPE}"))


def _make(folder: Path, python: Path, pins: Path, packages: tuple[str, ...]) -> None:
    """By uv where it is there, else by venv and pip."""
    if uv := shutil.which("uv"):
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(pins), *packages],
        ]
    else:
        install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(pins)]
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [*install, "setuptools"],
            [*install, *packages],
        ]
    for command in commands:
        subprocess.run(command, check=True)
