"""Gaussians as the PLY file that 3DGS (arXiv 2308.04079) writes and splat viewers read.

Per Gaussian: centre, a normal of zeros, colour as the constant spherical harmonic, opacity before the sigmoid,
logarithms of the standard deviations, and a unit quaternion w, x, y, z; in our axes, z up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from psdbench.export.mesh import need
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.representations.gaussians import Gaussians

HARMONIC = 0.28209479177387814
"""the constant real spherical harmonic, 1 / (2 sqrt(pi)): a colour is 0.5 + HARMONIC * f_dc"""
COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


@torch.no_grad()
def write_splats(path: Path, asset: Gaussians) -> None:
    """Write the Gaussians of an asset; EnvironmentProblem without the package plyfile."""
    (plyfile,) = need("plyfile")
    harmonics = (asset.colours.sigmoid() - 0.5) / HARMONIC
    rotations = functional.normalize(asset.rotations, dim=-1)
    parts = (
        asset.means, torch.zeros_like(asset.means), harmonics, asset.opacities[:, None], asset.log_scales, rotations
    )  # fmt: skip
    values = torch.cat(parts, dim=1).cpu().numpy().astype("<f4")
    rows = np.empty(len(values), dtype=[(name, "<f4") for name in COLUMNS])
    for name, column in zip(COLUMNS, values.T, strict=True):
        rows[name] = column
    element = plyfile.PlyElement.describe(rows, "vertex")
    atomic.write_with(
        path, lambda temporary: plyfile.PlyData([element], byte_order="<").write(str(temporary))
    )
