"""The rasteriser against compositing of all Gaussians at every pixel in float64, and against `gsplat` on a GPU."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from psdbench.cameras import CameraConfig, Cameras, orbit, sample_cameras
from psdbench.representations.splatting import (
    BLUR,
    FAINTEST,
    STRONGEST,
    blend,
    project,
    rotation_matrices,
    spacing,
    view_matrices,
)

COUNT = 60


def scene(count: int = COUNT, seed: int = 0) -> dict[str, Tensor]:
    """Random Gaussians of all sizes and opacities, float64."""
    generator = torch.Generator().manual_seed(seed)
    real = {"generator": generator, "dtype": torch.float64}
    return {
        "means": torch.rand(count, 3, **real) * 1.6 - 0.8,
        "rotations": torch.nn.functional.normalize(torch.randn(count, 4, **real), dim=-1),
        "scales": torch.exp(torch.rand(count, 3, **real) * 2.5 - 4),
        "opacities": torch.rand(count, **real),
        "features": torch.rand(1, count, 4, **real),
    }


def cameras(views: int = 2, seed: int = 1) -> Cameras:
    return sample_cameras(torch.Generator().manual_seed(seed), views, CameraConfig(overhead_share=0.5))


def spread(features: Tensor, views: int) -> Tensor:
    return features.expand(views, -1, -1)


def one_pixel(view: Cameras, size: int, row: int, column: int, given: dict[str, Tensor]) -> Tensor:
    """Opacity and features at one pixel: projection by scalars, all Gaussians in the order of their depth."""
    position, (right, up, backward) = view.positions[0].double(), (a[0].double() for a in view.axes())
    focal = size / 2 / math.tan(math.radians(float(view.fov[0])) / 2)
    turn = torch.stack([right, -up, -backward])
    found = []
    for index in range(len(given["means"])):
        x, y, z = (turn @ (given["means"][index] - position)).tolist()
        axes = rotation_matrices(given["rotations"][index : index + 1])[0] @ given["scales"][index].diag()
        jacobian = torch.tensor([[focal / z, 0, -focal * x / z**2], [0, focal / z, -focal * y / z**2]])
        flat = jacobian.double() @ turn @ axes
        covariance = flat @ flat.T + BLUR * torch.eye(2, dtype=torch.float64)
        off = torch.tensor([column + 0.5 - focal * x / z - size / 2, row + 0.5 - focal * y / z - size / 2])
        power = float(off.double() @ torch.linalg.inv(covariance) @ off.double())
        alpha = min(STRONGEST, float(given["opacities"][index]) * math.exp(-power / 2))
        if alpha >= FAINTEST:
            found.append((z, alpha, given["features"][0, index]))
    passing, total = 1.0, torch.zeros(given["features"].shape[-1], dtype=torch.float64)
    for _, alpha, feature in sorted(found, key=lambda entry: entry[0]):
        total += passing * alpha * feature
        passing *= 1 - alpha
    return torch.cat([torch.tensor([1 - passing], dtype=torch.float64), total])


def test_tiles_equal_brute_force_compositing_to_1e_4() -> None:
    given, views, size = scene(), cameras(), 40  # 40 pixels: the last tile is a part of one
    single = {name: tensor.float() for name, tensor in given.items()}
    single["features"] = spread(single["features"], len(views))
    blended = blend(**single, cameras=views, size=size)
    got = torch.cat([blended.opacity, blended.features], dim=1)
    assert 0.2 < blended.opacity.mean() < 0.98
    for number, view in enumerate(views):
        for row, column in [(0, 0), (7, 33), (15, 16), (16, 15), (20, 20), (31, 32), (39, 39), (25, 9)]:
            expected = one_pixel(view, size, row, column, given)
            torch.testing.assert_close(got[number, :, row, column].double(), expected, atol=1e-4, rtol=0)


def test_gradients_equal_finite_differences() -> None:
    given, size = scene(5, seed=3), 8
    given["scales"] = given["scales"] * 4  # wide ones: no pixel near the edge where one is left out
    given["opacities"] = 0.3 + 0.4 * given["opacities"]
    views = cameras(1)
    names = list(given)

    def outputs(*values: Tensor) -> tuple[Tensor, Tensor]:
        blended = blend(**dict(zip(names, values, strict=True)), cameras=views, size=size)
        return blended.features, blended.opacity

    inputs = [tensor.clone().requires_grad_() for tensor in given.values()]
    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-7, atol=1e-4, nondet_tol=0.0)


def test_a_gaussian_in_front_of_the_camera_is_a_bell_of_known_width() -> None:
    view, size, scale = orbit(1, 0.0, CameraConfig(rig_distance=2.5)), 65, 0.1
    single = {
        "means": torch.zeros(1, 3),
        "rotations": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), scale),
        "opacities": torch.tensor([0.8]),
        "features": torch.ones(1, 1, 1),
    }
    opacity = blend(**single, cameras=view, size=size).opacity[0, 0]
    focal = size / 2 / math.tan(math.radians(22.5))
    variance = (focal * scale / 2.5) ** 2 + BLUR
    steps = torch.arange(size) - size // 2
    expected = 0.8 * torch.exp(-(steps**2) / (2 * variance))
    torch.testing.assert_close(opacity[32], torch.where(expected < FAINTEST, 0, expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(opacity[:, 32], opacity[32])


def test_projection_is_that_of_the_rays() -> None:
    views, size = cameras(3), 10
    origins, directions = views.rays(size)
    points = (origins + 2.0 * directions)[:, 3, 7]
    eye = torch.eye(3).expand(3, 3, 3) * 1e-6
    splats = project(points, eye, torch.full((3,), 0.9), views, size)
    centres = torch.stack([splats.centres[v, v] for v in range(3)])
    torch.testing.assert_close(centres, torch.tensor([[7.5, 3.5]]).expand(3, 2), atol=1e-3, rtol=0)
    there = torch.cat([points, torch.ones(3, 1)], dim=1)
    local = torch.stack([view_matrices(views)[v] @ there[v] for v in range(3)])
    torch.testing.assert_close(local[:, :3].norm(dim=1), torch.full((3,), 2.0))
    assert (local[:, 2] > 0).all()


def test_what_is_behind_the_camera_or_faint_is_not_drawn() -> None:
    single = {name: tensor.float() for name, tensor in scene(2).items()}
    single["means"] = torch.tensor([[10.0, 0, 0], [0.0, 0, 0]])  # the camera stands at x = 2.6
    single["opacities"] = torch.tensor([0.9, 0.5 / 255])
    blended = blend(**single, cameras=orbit(1, 0.0, CameraConfig()), size=16)
    assert not blended.seen.any()
    assert blended.opacity.max() == 0
    assert blended.features.abs().max() == 0


def test_rotations_turn() -> None:
    quarter = torch.tensor([[math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]])  # 90° about z
    matrix = rotation_matrices(quarter)[0]
    torch.testing.assert_close(
        matrix @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0
    )
    random = rotation_matrices(scene()["rotations"])
    torch.testing.assert_close(random @ random.transpose(1, 2), torch.eye(3).double().expand_as(random))
    torch.testing.assert_close(torch.linalg.det(random), torch.ones(COUNT, dtype=torch.float64))


def test_points_in_a_ball_have_its_volume_between_them() -> None:
    assert 1000 * spacing(1000, 0.5) ** 3 == pytest.approx(4 / 3 * math.pi * 0.5**3)


@pytest.mark.gpu
def test_gsplat_equals_the_reference() -> None:
    pytest.importorskip("gsplat")
    given, views = scene(400), cameras(3)
    single = {name: tensor.float() for name, tensor in given.items()}
    single["features"] = spread(single["features"], len(views)).contiguous()
    outcomes = []
    for device in ("cpu", "cuda"):
        inputs = {name: tensor.to(device).requires_grad_() for name, tensor in single.items()}
        blended = blend(**inputs, cameras=views.to(device), size=72)
        (blended.features.square().sum() + blended.opacity.sum()).backward()
        gradients = [tensor.grad.cpu() for tensor in inputs.values() if tensor.grad is not None]
        outcomes.append((blended.features.detach().cpu(), blended.opacity.detach().cpu(), *gradients))
        assert blended.centres.grad is not None
    for reference, fast in zip(*outcomes, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(fast / scale, reference / scale, atol=1e-4, rtol=0)
