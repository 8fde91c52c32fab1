"""The density of splats in space: against all of them at every point, and against the opacity they are seen with."""

from __future__ import annotations

import math

import torch

from psdbench.representations.splat_field import splat_field
from psdbench.representations.splatting import rotation_matrices


def random_splats(count: int = 80) -> tuple[torch.Tensor, ...]:
    """Means, axes, opacities and colours, float64; the standard deviations go from 0.02 to 0.2."""
    real = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    turn = rotation_matrices(torch.nn.functional.normalize(torch.randn(count, 4, **real), dim=-1))
    scales = 0.02 * 10 ** torch.rand(count, 3, **real)
    opacities, colours = torch.rand(count, **real), torch.rand(count, 3, **real)
    return torch.rand(count, 3, **real) * 1.6 - 0.8, turn * scales[:, None, :], opacities, colours


def test_looking_up_neighbours_leaves_out_next_to_nothing() -> None:
    means, axes, opacities, colours = random_splats()
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    extinction, mixed = splat_field(points, means, axes, opacities, colours)
    precision = torch.linalg.inv(axes @ axes.transpose(1, 2))
    offsets = points[:, None] - means
    power = torch.einsum("mni,nij,mnj->mn", offsets, precision, offsets)
    widths = torch.linalg.det(axes).abs() ** (1 / 3)
    shares = -torch.log1p(-opacities.clamp(max=0.999)) / (math.tau**0.5 * widths) * torch.exp(-power / 2)
    torch.testing.assert_close(extinction, shares.sum(1), atol=1e-3, rtol=0)
    dense = extinction > 0.1
    assert dense.sum() > 500
    torch.testing.assert_close(
        mixed[dense], (shares @ colours / shares.sum(1)[:, None])[dense], atol=1e-2, rtol=0
    )


def test_a_ray_through_the_middle_loses_what_the_opacity_says() -> None:
    steps = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    points = torch.stack([steps, 0 * steps, 0 * steps], dim=1)
    one = (torch.zeros(1, 3), 0.1 * torch.eye(3)[None], torch.tensor([0.7]), torch.tensor([[0.2, 0.5, 0.9]]))
    extinction, colours = splat_field(points, *(tensor.double() for tensor in one))
    assert abs(1 - math.exp(-float(torch.trapezoid(extinction, steps))) - 0.7) < 1e-4
    torch.testing.assert_close(colours[1000], one[3][0].double())
    assert extinction[0] == 0  # ten standard deviations away
