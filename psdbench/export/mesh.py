"""An asset as a triangle mesh with vertex colours: GLB for viewers and engines, PLY for tools.

The surface is where the extinction passes a level, found by marching cubes. The colours are those of the asset
there, with the light baked in, so the GLB's material is unlit. Axes: glTF has y up and looks at +z, which is what
our z and +x become; a PLY keeps ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.export import MESH_RESOLUTION
from psdbench.store import atomic

if TYPE_CHECKING:
    from psdbench.representations import Representation

INSTALL = "install them: pip install 'psdbench[mesh]'"
BATCH = 2**16
"""points that an asset is asked for at a time"""
TO_GLTF = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
"""our axes to glTF's: x = y, y = z, z = x, a rotation"""


def need(*packages: str) -> list[Any]:
    """Import optional packages; EnvironmentProblem names the one that is not there."""
    import importlib

    try:
        return [importlib.import_module(package) for package in packages]
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"meshes need the package '{error.name}', which is not there", INSTALL
        ) from error


@torch.no_grad()
def extract_mesh(asset: Representation, resolution: int = MESH_RESOLUTION, level: float | None = None) -> Any:
    """The asset's surface as a trimesh.Trimesh in our axes, with sRGB vertex colours; at its own level by default.

    Raises UsageError when the extinction does not reach the level anywhere.
    """
    trimesh, measure = need("trimesh", "skimage.measure")
    level = asset.mesh_level if level is None else level
    ticks = np.linspace(-1, 1, resolution + 1, dtype=np.float32)
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    extinction, _ = _sampled(asset, grid)
    volume = np.pad(extinction.reshape((resolution + 1,) * 3), 1)  # closed where it meets the cube
    if volume.max() <= level:
        raise UsageError(
            f"no surface: the extinction reaches {volume.max():.3g}, the level is {level:g}",
            "pass a lower --level",
        )
    places, faces, _, _ = measure.marching_cubes(volume, level, allow_degenerate=False)
    vertices = ((places - 1) * (2 / resolution) - 1).clip(-1, 1).astype(np.float32)
    _, colours = _sampled(asset, vertices)
    outwards = faces[:, ::-1]  # marching cubes takes the array's axes for z, y, x
    return trimesh.Trimesh(vertices, outwards, vertex_colors=_bytes(colours), process=False)


def _sampled(asset: Representation, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    device = next(asset.parameters()).device
    parts = [asset.sample(part.to(device)) for part in torch.from_numpy(points).split(BATCH)]
    extinction, colours = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return extinction, colours


def write_glb(path: Path, mesh: Any) -> None:
    """Write a mesh of `extract_mesh` as binary glTF 2.0: linear colours, as the format wants, and no light."""
    trimesh, gltf = need("trimesh", "trimesh.exchange.gltf")
    turned = mesh.copy()
    turned.apply_transform(TO_GLTF)
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    turned.visual = trimesh.visual.ColorVisuals(turned, vertex_colors=_bytes(to_linear(colours)))
    atomic.write_bytes(path, gltf.export_glb(trimesh.Scene(turned), tree_postprocessor=_unlit))


def _unlit(tree: dict[str, Any]) -> None:
    """Give every mesh of a glTF tree a material that shows its vertex colours as they are."""
    tree["materials"] = [
        {
            "extensions": {"KHR_materials_unlit": {}},
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        }
    ]
    tree["extensionsUsed"] = sorted({*tree.get("extensionsUsed", []), "KHR_materials_unlit"})
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0


def write_ply(path: Path, mesh: Any) -> None:
    """Write a mesh of `extract_mesh` as binary PLY with sRGB vertex colours, in our axes."""
    atomic.write_bytes(path, mesh.export(file_type="ply"))


def to_linear(colours: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def to_srgb(colours: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB."""
    return np.where(colours <= 0.0031308, colours * 12.92, 1.055 * colours ** (1 / 2.4) - 0.055)


def _bytes(colours: np.ndarray) -> np.ndarray:
    """[N, 3] in [0, 1] as opaque RGBA bytes."""
    opaque = np.concatenate([colours, np.ones((len(colours), 1))], axis=1)
    return (opaque * 255).round().clip(0, 255).astype(np.uint8)
