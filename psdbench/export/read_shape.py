"""Foreign shapes to start from: GLB and PLY meshes, point clouds, splats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.export.mesh import TO_GLTF, need, to_srgb
from psdbench.export.splats import HARMONIC
from psdbench.store.digest import sha256_file

if TYPE_CHECKING:
    from psdbench.config import InitRef
    from psdbench.representations.shape import Shape

POINTS = 100_000
"""drawn on the surface of a mesh"""
LARGEST_FILE = 500 * 2**20
"""bytes; read whole into memory"""
ENDINGS = (".glb", ".ply")
GREY = 0.5
FITTED = 0.7
"""half the longest side of a shape that does not lie in the cube, after it was brought there, world units"""


def init_ref(place: str) -> InitRef:
    """The identity of a file to start from; UsageError when it is none."""
    from psdbench.config import InitRef

    path = Path(place)
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"cannot start from {path}: not a {' or '.join(ENDINGS)} file", "convert it to one of them"
        )
    if not path.is_file():
        raise UsageError(f"cannot start from {path}: there is no such file", "check the path after --init")
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"cannot start from {path}: more than 500 MB", "simplify the shape")
    return InitRef(sha256_file(path), str(path.resolve()))


def read_init(ref: InitRef) -> Shape:
    """The shape that a job starts from; EnvironmentProblem when the file is no longer the one planned with."""
    path = Path(ref.file)
    if not path.is_file() or sha256_file(path) != ref.sha256:
        raise EnvironmentProblem(
            f"{path} is not the shape that the job was planned with",
            "restore it, or run the same command again: it makes new jobs with the present one",
        )
    return read_shape(path)


def read_shape(path: Path) -> Shape:
    """Coloured points of a file in our axes; grey where it has no colours. UsageError for what cannot be read.

    A shape that does not lie in the cube [-1, 1]³ is moved to its middle and scaled.
    """
    from psdbench.representations.shape import Shape

    try:
        splats = _splats(path) if path.suffix.lower() == ".ply" else None
        points, colours = splats or _points(path)
    except EnvironmentProblem:
        raise
    except Exception as error:  # whatever the parsers of foreign files raise
        raise UsageError(
            f"cannot read {path}: {type(error).__name__}: {error}", "pass a GLB or PLY file"
        ) from error
    if not len(points) or not np.isfinite(points).all():
        raise UsageError(f"{path} has no points, or some that are not finite", "pass another file to --init")
    low, high = points.min(0), points.max(0)
    if max(-low.min(), high.max()) > 1:
        points = (points - (low + high) / 2) * (2 * FITTED / (high - low).max())
    as_tensor = (torch.from_numpy(np.ascontiguousarray(x)).float() for x in (points, colours.clip(0, 1)))
    return Shape(*as_tensor)


def _splats(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Centres and colours of a splat file, None for any other PLY."""
    (plyfile,) = need("plyfile")
    vertices = plyfile.PlyData.read(str(path))["vertex"].data
    if "f_dc_0" not in vertices.dtype.names:
        return None
    points = np.stack([vertices[name] for name in "xyz"], axis=1)
    harmonics = np.stack([vertices[f"f_dc_{i}"] for i in range(3)], axis=1)
    return points, 0.5 + HARMONIC * harmonics


def _points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points and sRGB colours: of clouds themselves, of meshes drawn evenly on their surfaces."""
    (trimesh,) = need("trimesh")
    glb, scene = path.suffix.lower() == ".glb", trimesh.load_scene(str(path))
    placed = [scene.graph[node] for node in scene.graph.nodes_geometry]
    parts = [(transform, scene.geometry[name]) for transform, name in placed]
    areas = [abs(np.linalg.det(turn[:3, :3])) ** (2 / 3) * getattr(part, "area", 0) for turn, part in parts]
    generator, found = np.random.default_rng(0), list[tuple[np.ndarray, np.ndarray]]()
    for (transform, part), area in zip(parts, areas, strict=True):
        if isinstance(part, trimesh.Trimesh):
            points, colours = _on_surface(part, max(1, round(POINTS * area / sum(areas))), generator, glb)
        else:
            points, colours = np.asarray(part.vertices), _vertex_colours(part, glb)
        found.append((points @ transform[:3, :3].T + transform[:3, 3], colours))
    points, colours = (np.concatenate(each) for each in zip(*found, strict=True))
    return (points @ TO_GLTF[:3, :3] if glb else points), colours


def _on_surface(
    mesh: Any, count: int, generator: np.random.Generator, linear: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`count` points spread evenly over a mesh, with its colours there: of the texture, else of the vertices."""
    cumulated = np.cumsum(mesh.area_faces)
    faces = mesh.faces[np.searchsorted(cumulated, generator.random(count) * cumulated[-1])]
    shares = generator.dirichlet((1, 1, 1), count)[:, :, None]
    points = (shares * mesh.vertices[faces]).sum(1)
    uv, material = getattr(mesh.visual, "uv", None), getattr(mesh.visual, "material", None)
    picture = getattr(material, "baseColorTexture", getattr(material, "image", None))
    if uv is not None and material is not None and picture is not None:
        colours = material.to_color((shares * uv[faces]).sum(1))
        return points, np.asarray(colours)[:, :3] / 255
    return points, (shares * _vertex_colours(mesh, linear)[faces]).sum(1)


def _vertex_colours(part: Any, linear: bool) -> np.ndarray:
    """sRGB [N, 3] in [0, 1]: of the vertices, else the material's one colour, else grey."""
    visual, count = part.visual, len(part.vertices)
    material = getattr(visual, "material", None)
    if material is not None:  # trimesh keeps the vertex colours of a mesh with a material apart
        colours = visual.vertex_attributes.get("color", np.tile(material.main_color, (count, 1)))
    else:
        colours = visual.vertex_colors if visual.kind else None
    if colours is None or len(colours) != count:
        return np.full((count, 3), GREY)
    values = np.asarray(colours)[:, :3]
    values = values / 255 if values.dtype.kind == "u" else values
    return to_srgb(values) if linear else values
