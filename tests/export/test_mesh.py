"""Meshes and splats, read back by the libraries that others read them with; and as shapes to start from."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.export import mesh as mesh_module
from psdbench.export.mesh import extract_mesh, to_linear, to_srgb, write_glb, write_ply
from psdbench.export.read_shape import init_ref, read_init, read_shape
from psdbench.export.splats import COLUMNS, write_splats
from psdbench.representations.gaussians import Gaussians, GaussiansConfig
from psdbench.representations.voxels import Voxels, VoxelsConfig

trimesh = pytest.importorskip("trimesh")
plyfile = pytest.importorskip("plyfile")
pytest.importorskip("skimage")

RED, BLUE = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.2, 0.8])
RADIUS = 0.6


def ball() -> Voxels:
    """A ball whose front (+x) half is red and whose back half is blue, with a bump on top (+z)."""
    asset = Voxels(VoxelsConfig(resolution=24, density_scale=50.0), torch.Generator())
    ticks = (torch.arange(24) + 0.5) / 12 - 1
    x, y, z = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    inside = (x**2 + y**2 + z**2).sqrt() - RADIUS
    bump = (x**2 + y**2 + (z - 0.7) ** 2).sqrt() - 0.2
    with torch.no_grad():
        asset.density.copy_(-60 * torch.minimum(inside, bump))
        colours = torch.where(x[..., None] > 0, torch.tensor(RED), torch.tensor(BLUE))
        asset.colour.copy_(colours.logit())
    return asset


def splats(count: int = 50) -> Gaussians:
    return Gaussians(GaussiansConfig(count=count, colour_noise=2.0), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mesh() -> Any:
    return extract_mesh(ball(), resolution=32)


def test_mesh_is_closed_and_has_the_size_of_the_ball(mesh: Any) -> None:
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    low, high = mesh.bounds
    assert low == pytest.approx([-RADIUS] * 3, abs=0.06)
    assert high == pytest.approx([RADIUS, RADIUS, 0.9], abs=0.06)
    surface = RADIUS + 0.025  # where the extinction is at the level
    assert mesh.volume == pytest.approx(
        4 / 3 * np.pi * surface**3 + 0.03, rel=0.1
    )  # positive: faces look outwards


def test_vertex_colours_are_those_of_the_asset(mesh: Any) -> None:
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    front, back = mesh.vertices[:, 0] > 0.1, mesh.vertices[:, 0] < -0.1
    assert np.abs(colours[front] - RED).max() < 0.02
    assert np.abs(colours[back] - BLUE).max() < 0.02


def test_glb_looks_forward_with_y_up_linear_and_unlit(mesh: Any, tmp_path: Path) -> None:
    write_glb(tmp_path / "a.glb", mesh)
    (loaded,) = trimesh.load_scene(tmp_path / "a.glb").geometry.values()
    assert len(loaded.vertices) == len(mesh.vertices)
    assert loaded.bounds[1] == pytest.approx([RADIUS, 0.9, RADIUS], abs=0.06)  # the bump is up, y
    colours = np.asarray(loaded.visual.vertex_attributes["color"])[:, :3] / 255
    assert np.abs(to_srgb(colours[loaded.vertices[:, 2] > 0.1]) - RED).max() < 0.06  # the front is +z
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    tree = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    primitive = tree["meshes"][0]["primitives"][0]
    assert "KHR_materials_unlit" in tree["materials"][primitive["material"]]["extensions"]
    assert "COLOR_0" in primitive["attributes"]


def test_ply_keeps_our_axes_and_colours(mesh: Any, tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", mesh)
    vertices = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    assert {"x", "y", "z", "red", "green", "blue"} <= set(vertices.dtype.names)
    assert vertices["z"].max() == pytest.approx(0.9, abs=0.06)
    front = vertices["x"] > 0.1
    assert np.abs(vertices["red"][front] / 255 - RED[0]).max() < 0.02


def test_splats_are_the_file_that_viewers_read(tmp_path: Path) -> None:
    asset = splats()
    write_splats(tmp_path / "s.ply", asset)
    data = plyfile.PlyData.read(str(tmp_path / "s.ply"))
    vertices = data["vertex"].data
    assert vertices.dtype.names == COLUMNS
    assert not data.text
    assert data.byte_order == "<"
    assert len(vertices) == 50
    centres = np.stack([vertices[name] for name in "xyz"], axis=1)
    np.testing.assert_array_equal(centres, asset.means.detach().numpy())
    colours = 0.5 + 0.28209479 * np.stack([vertices[f"f_dc_{i}"] for i in range(3)], axis=1)
    np.testing.assert_allclose(colours, asset.colours.detach().sigmoid().numpy(), atol=1e-6)
    np.testing.assert_array_equal(vertices["opacity"], asset.opacities.detach().numpy())
    np.testing.assert_array_equal(vertices["scale_2"], asset.log_scales[:, 2].detach().numpy())
    turns = np.stack([vertices[f"rot_{i}"] for i in range(4)], axis=1)
    np.testing.assert_allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-6)


def test_gaussians_have_a_surface_too() -> None:
    asset = Gaussians(GaussiansConfig(count=1), torch.Generator())
    with torch.no_grad():
        asset.means.zero_()
        asset.log_scales.fill_(float(np.log(0.2)))
        asset.opacities.fill_(6.0)
        asset.colours.copy_(torch.tensor(RED).logit()[None])
    mesh = extract_mesh(asset, resolution=32)
    radii = np.linalg.norm(mesh.vertices, axis=1)
    peak = float(asset.sample(torch.zeros(1, 3))[0].detach())
    assert radii.mean() == pytest.approx(0.2 * np.sqrt(2 * np.log(peak / asset.mesh_level)), abs=0.01)
    assert np.abs(np.asarray(mesh.visual.vertex_colors)[:, :3] / 255 - RED).max() < 0.01


def test_an_empty_asset_has_no_surface() -> None:
    asset = ball()
    with torch.no_grad():
        asset.density.fill_(-30.0)
    with pytest.raises(UsageError, match="no surface"):
        extract_mesh(asset, resolution=16)


def test_linear_light_and_srgb_are_inverse() -> None:
    values = np.linspace(0, 1, 101)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-7)
    assert to_linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(EnvironmentProblem, match="trimesh") as problem:
        mesh_module.need("trimesh")
    assert "psdbench[mesh]" in problem.value.remedy


@pytest.mark.parametrize("ending", ["glb", "ply"])
def test_what_was_written_is_read_as_a_shape(ending: str, mesh: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    (write_glb if ending == "glb" else write_ply)(path, mesh)
    shape = read_shape(path)
    assert len(shape.points) == pytest.approx(100_000, rel=0.01)
    assert shape.points.amax(0).tolist() == pytest.approx([RADIUS, RADIUS, 0.9], abs=0.06)
    front = shape.colours[shape.points[:, 0] > 0.1]
    assert (front - torch.tensor(RED)).abs().max() < 0.06
    again = read_shape(path)
    assert torch.equal(shape.points, again.points)


def test_splats_and_clouds_are_read_as_shapes(tmp_path: Path) -> None:
    asset = splats()
    write_splats(tmp_path / "s.ply", asset)
    shape = read_shape(tmp_path / "s.ply")
    torch.testing.assert_close(shape.points, asset.means.detach())
    torch.testing.assert_close(shape.colours, asset.colours.detach().sigmoid())
    colours = np.tile(np.array([[255, 0, 0, 255]], np.uint8), (30, 1))
    places = np.random.default_rng(0).random((30, 3)) * 5
    trimesh.PointCloud(places, colours).export(tmp_path / "c.ply")
    cloud = read_shape(tmp_path / "c.ply")
    assert len(cloud.points) == 30
    assert (cloud.points.amax(0) - cloud.points.amin(0)).max() == pytest.approx(
        1.4, abs=1e-5
    )  # it was too large
    torch.testing.assert_close(cloud.colours, torch.tensor([[1.0, 0, 0]]).expand(30, 3))


def test_a_mesh_without_colours_is_grey(tmp_path: Path) -> None:
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "b.glb")
    shape = read_shape(tmp_path / "b.glb")
    assert shape.points.abs().max() == pytest.approx(0.5)
    assert shape.colours.std() < 1e-6


def test_a_texture_is_read_where_the_points_lie(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (16, 16), (255, 0, 0))
    picture.paste((0, 0, 255), (8, 0, 16, 16))  # red to the left, blue to the right
    corners = np.array([[0, 0, 0], [0.8, 0, 0], [0.8, 0.8, 0], [0, 0.8, 0]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    visual = trimesh.visual.TextureVisuals(uv=corners[:, :2] / 0.8, material=material)
    square = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    trimesh.Scene(square).export(tmp_path / "t.glb")
    shape = read_shape(tmp_path / "t.glb")
    across = shape.points[:, 1]  # glTF's x is our y
    for side, colour in ((across < 0.37, [1.0, 0, 0]), (across > 0.43, [0.0, 0, 1])):
        torch.testing.assert_close(shape.colours[side], torch.tensor(colour).expand(int(side.sum()), 3))


@pytest.mark.parametrize("content", [b"", b"ply\nnonsense", b"glTF\x02\x00\x00\x00junk"])
@pytest.mark.parametrize("ending", ["glb", "ply"])
def test_what_cannot_be_read_is_one_line(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"bad.{ending}"):
        read_shape(path)


def test_a_file_to_start_from_is_known_by_its_content(mesh: Any, tmp_path: Path) -> None:
    path, copy = tmp_path / "a.ply", tmp_path / "b.ply"
    write_ply(path, mesh)
    copy.write_bytes(path.read_bytes())
    assert init_ref(str(path)).sha256 == init_ref(str(copy)).sha256
    ref = init_ref(str(path))
    path.write_bytes(b"ply\n")
    with pytest.raises(EnvironmentProblem, match="planned with"):
        read_init(ref)
    for wrong in ("no-such.glb", "notes.txt"):
        with pytest.raises(UsageError, match="cannot start from"):
            init_ref(str(tmp_path / wrong))
