"""The voxel renderer against brute force in float64, finite differences, and geometry that is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, evaluation_rig, orbit, sample_cameras
from psdbench.representations.interpolate import Interpolate
from psdbench.representations.volume import stopping
from psdbench.representations.voxels import Voxels, VoxelsConfig, plane_samples

SIZE = 16


def make(resolution: int = 8, seed: int = 0, **fields: float) -> Voxels:
    """A small asset with random content."""
    generator = torch.Generator().manual_seed(seed)
    asset = Voxels(VoxelsConfig(resolution=resolution, **fields), generator)
    with torch.no_grad():
        asset.density.add_(torch.randn(asset.density.shape, generator=generator))
    return asset


def cameras(views: int = 2, seed: int = 1) -> Cameras:
    return sample_cameras(torch.Generator().manual_seed(seed), views, CameraConfig(overhead_share=0.5))


def trilinear(grid: Tensor, point: list[float]) -> Tensor:
    """The interpolant at one point, eight corners written out; constant beyond the outer centres."""
    n = grid.shape[0]
    places = [min(max((x + 1) * n / 2 - 0.5, 0), n - 1) for x in point]
    total = torch.zeros(grid.shape[3:], dtype=grid.dtype)
    for corner in range(8):
        weight, index = 1.0, []
        for axis, place in enumerate(places):
            low = min(math.floor(place), n - 2)
            high = corner >> axis & 1
            weight *= place - low if high else 1 - (place - low)
            index.append(low + high)
        total += weight * grid[tuple(index)]
    return total


def brute_force(
    asset: Voxels, origin: Tensor, direction: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """Front-to-back compositing of one ray in float64, sample by sample."""
    n, main = asset.config.resolution, int(direction.abs().argmax())
    planes = range(n) if direction[main] > 0 else range(n - 1, -1, -1)
    passing, rgb = torch.ones((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    colours = asset.colour.detach().double().sigmoid()
    for plane in planes:
        distance = ((plane + 0.5) * 2 / n - 1 - origin[main]) / direction[main]
        point = (origin + distance * direction).tolist()
        if max(abs(x) for x in point) > 1:
            continue
        density = torch.nn.functional.softplus(trilinear(asset.density.detach().double(), point))
        alpha = 1 - torch.exp(-density * asset.config.density_scale * 2 / n / direction[main].abs())
        rgb += passing * alpha * trilinear(colours, point)
        passing = passing * (1 - alpha)
    return rgb + passing * background, 1 - passing


def test_render_equals_brute_force_compositing() -> None:
    asset, views = make(), cameras()
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 1.0, 1.0]])
    render = asset.render(views, SIZE, background)
    origins, directions = views.rays(SIZE)
    for view in range(len(views)):
        for row in range(0, SIZE, 3):
            for column in range(1, SIZE, 3):
                rgb, opacity = brute_force(
                    asset,
                    origins[view, row, column].double(),
                    directions[view, row, column].double(),
                    background[view].double(),
                )
                torch.testing.assert_close(render.rgb[view, :, row, column].double(), rgb, atol=2e-5, rtol=0)
                torch.testing.assert_close(
                    render.opacity[view, 0, row, column].double(), opacity, atol=2e-5, rtol=0
                )


def test_gradients_equal_finite_differences() -> None:
    asset, views = make(resolution=5).double(), cameras(1)
    views = Cameras(*(t.double() for t in (views.azimuth, views.elevation, views.distance, views.fov)))
    background = torch.full((3,), 0.3, dtype=torch.float64)

    def outputs(density: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        render = torch.func.functional_call(
            asset, {"density": density, "colour": colour}, (views, 4, background)
        )
        return render.rgb, render.opacity

    asset.forward = asset.render
    inputs = (asset.density.detach().requires_grad_(), asset.colour.detach().requires_grad_())
    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-6, atol=1e-6)


def test_interpolation_gradient_is_the_transpose() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 7, (4, 30), generator=generator, dtype=torch.int32)
    weights = torch.rand(4, 30, generator=generator, dtype=torch.float64)
    table = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: Interpolate.apply(t, rows, weights), (table,))


def test_weights_form_a_partition_of_unity_and_lengths_stay_inside() -> None:
    origins, directions = (rays.reshape(-1, 3) for rays in cameras(4).rays(SIZE))
    samples = plane_samples(origins, directions, 8)
    torch.testing.assert_close(samples.weights.sum(0), torch.ones_like(samples.weights[0]))
    assert samples.weights.min() >= 0
    assert samples.voxels.min() >= 0
    assert samples.voxels.max() < 8**3
    points = origins[:, None] + samples.distances[..., None] * directions[:, None]
    assert ((points.abs().amax(-1) <= 1 + 1e-5) | (samples.lengths == 0)).all()
    assert (samples.distances.diff(dim=1) > 0).all()


def test_opacity_and_colour_stay_in_range() -> None:
    asset = make(density_scale=1e4)
    with torch.no_grad():
        asset.colour.mul_(1e3)
    render = asset.render(cameras(3), SIZE, torch.tensor([1.0, 0.0, 1.0]))
    for image in (render.rgb, render.opacity):
        assert image.isfinite().all()
        assert image.min() >= 0
        assert image.max() <= 1
    assert render.opacity.max() > 0.99


@pytest.mark.parametrize("azimuth", [0.0, 30.0, 45.0])
def test_dense_cube_renders_the_silhouette_of_a_cube(azimuth: float) -> None:
    asset = make(resolution=32, density_scale=100.0)
    with torch.no_grad():
        asset.density.fill_(10.0)
    view = Cameras(*(torch.tensor([x]) for x in (azimuth, 20.0, 4.0, 45.0)))
    opacity = asset.render(view, 64, torch.ones(3)).opacity[0, 0]
    origins, directions = (rays[0].double() for rays in view.rays(64))
    near, far = (torch.stack([(side - origins) / directions for side in (-1.0, 1.0)])).sort(dim=0).values
    path = (far.amin(-1) - near.amax(-1)).clamp(min=0)
    step = 2 / 32 / directions.abs().amax(-1)
    assert (opacity[path == 0] == 0).all()
    assert (opacity[path > step] > 0.999).all()
    assert 0.1 < (path > 0).double().mean() < 0.9


def test_constant_density_is_absorbed_exponentially() -> None:
    asset = make(resolution=48, density_scale=1.0)
    with torch.no_grad():
        asset.density.fill_(0.5)
    view = Cameras(*(torch.tensor([x]) for x in (0.0, 0.0, 4.0, 10.0)))
    opacity = asset.render(view, 8, torch.ones(3)).opacity
    directions = view.rays(8)[1]
    expected = 1 - torch.exp(-math.log1p(math.exp(0.5)) * 2 / directions[..., 0].abs())
    torch.testing.assert_close(opacity[:, 0], expected, atol=1e-5, rtol=0)


def test_empty_scene_shows_exactly_the_background() -> None:
    asset = make()
    with torch.no_grad():
        asset.density.fill_(-1e4)
    background = torch.tensor([[0.1, 0.7, 0.3], [1.0, 1.0, 1.0]])
    render = asset.render(cameras(2), SIZE, background)
    assert torch.equal(render.rgb, background[:, :, None, None].expand_as(render.rgb))
    assert render.opacity.abs().max() == 0
    assert render.depth.abs().max() == 0


def test_gradients_reach_pixels_that_are_white() -> None:
    asset, view = make(), cameras(1)
    with torch.no_grad():
        asset.colour.fill_(30.0)
    render = asset.render(view, SIZE, torch.ones(3))
    assert render.rgb.max() <= 1
    (gradient,) = torch.autograd.grad(render.rgb, render.opacity, torch.ones_like(render.rgb))
    assert (gradient == -3).all()


def test_background_enters_linearly() -> None:
    asset, view = make(), cameras(1)
    black, white = (asset.render(view, SIZE, torch.full((3,), c)) for c in (0.0, 1.0))
    torch.testing.assert_close(white.rgb - black.rgb, (1 - black.opacity).expand_as(black.rgb))


def test_depth_of_a_solid_cube_is_the_distance_to_its_face() -> None:
    asset = make(resolution=32, density_scale=1e3)
    with torch.no_grad():
        asset.density.fill_(10.0)
    view = orbit(1, 0.0, CameraConfig(rig_distance=3.0))
    depth = asset.render(view, 33, torch.ones(3)).depth[0, 0, 16, 16]
    assert float(depth) == pytest.approx(2.0, abs=2 / 32)


def test_views_are_rendered_independently() -> None:
    asset, rig = make(), evaluation_rig(CameraConfig())
    together = asset.render(rig, SIZE, torch.ones(3)).rgb
    alone = torch.cat([asset.render(view, SIZE, torch.ones(3)).rgb for view in rig])
    assert torch.equal(together, alone)


def test_blob_is_in_the_middle_and_the_corners_are_clear() -> None:
    asset = Voxels(VoxelsConfig(), torch.Generator().manual_seed(0))
    opacity = asset.render(orbit(4, 15.0, CameraConfig()), 64, torch.ones(3)).opacity
    assert (opacity[:, 0, 32, 32] > 0.9).all()
    assert opacity[:, :, :4, :4].max() < 0.2


def test_smoothness_of_a_constant_grid_is_zero() -> None:
    asset = make()
    assert asset.variation() > 0
    with torch.no_grad():
        asset.density.fill_(1.0)
    assert asset.variation() == 0


def test_stopping_shares_sum_to_the_opacity() -> None:
    thickness = torch.rand(5, 9, dtype=torch.float64)
    torch.testing.assert_close(stopping(thickness).sum(-1), 1 - torch.exp(-thickness.sum(-1)))


@pytest.mark.parametrize("fields", [{"resolution": 1}, {"density_scale": 0.0}, {"blob_radius": -1.0}])
def test_impossible_configurations_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="voxels"):
        VoxelsConfig(**fields)


@pytest.mark.gpu
def test_cuda_renders_the_same() -> None:
    asset, views = make(), cameras()
    expected = asset.render(views, SIZE, torch.ones(3)).rgb
    got = asset.cuda().render(views.to("cuda"), SIZE, torch.ones(3, device="cuda")).rgb
    torch.testing.assert_close(got.cpu(), expected, atol=1e-5, rtol=0)
