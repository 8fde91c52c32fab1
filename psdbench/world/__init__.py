"""The shapes world: captioned procedural 3D objects, a known preference, and the models trained on them."""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """Where the shipped weights lie."""
    return Path(__file__).parent / "weights"
