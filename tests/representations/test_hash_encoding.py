"""The hash encoding against trilinear interpolation written out, the paper's hash, and finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from psdbench.representations.hash_encoding import PRIMES, HashEncoding, Level, corners, make_levels

POINTS = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def vertex_row(index: tuple[int, ...], level: Level) -> int:
    """The table row of a vertex, in Python's integers."""
    x, y, z = index
    side = level.resolution + 1
    if level.dense:
        return level.offset + (x * side + y) * side + z
    hashed = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])
    return level.offset + hashed % level.rows


def interpolated(table: Tensor, point: list[float], level: Level) -> Tensor:
    """The features of one point: eight vertices written out."""
    n = level.resolution
    places = [(x + 1) * n / 2 for x in point]
    low = [min(int(place), n - 1) for place in places]
    total = torch.zeros(table.shape[1], dtype=table.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        weight = 1.0
        for side, place, start in zip(corner, places, low, strict=True):
            weight *= place - start if side else 1 - (place - start)
        row = vertex_row(tuple(a + b for a, b in zip(low, corner, strict=True)), level)
        total += weight * table[row]
    return total


def test_levels_grow_in_equal_ratios_and_hash_when_they_must() -> None:
    levels = make_levels(4, 4, 32, 2**10)
    assert [level.resolution for level in levels] == [4, 8, 16, 32]
    assert [level.rows for level in levels] == [125, 729, 1024, 1024]
    assert [level.dense for level in levels] == [True, True, False, False]
    assert [level.offset for level in levels] == [0, 125, 854, 1878]


def test_one_level_is_the_coarsest() -> None:
    assert [level.resolution for level in make_levels(1, 7, 64, 2**10)] == [7]


def test_features_equal_trilinear_interpolation_written_out() -> None:
    levels = make_levels(3, 3, 12, 2**8)
    assert not levels[-1].dense
    encoding = HashEncoding(levels, 2, torch.Generator().manual_seed(1)).double()
    got = encoding(POINTS, 3)
    assert got.shape == (2, 3, len(POINTS))
    for place, level in enumerate(levels):
        expected = torch.stack([interpolated(encoding.table, p, level) for p in POINTS.tolist()], dim=1)
        torch.testing.assert_close(got[:, place], expected)


@pytest.mark.parametrize("level", make_levels(3, 3, 40, 2**8))
def test_weights_are_shares_and_rows_are_of_their_level(level: Level) -> None:
    edge = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [1, -1, 0]], dtype=torch.float64)
    rows, weights = corners(torch.cat([POINTS, edge]), level)
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    assert weights.min() >= 0
    assert rows.min() >= level.offset
    assert rows.max() < level.offset + level.rows


def test_a_hashed_level_uses_its_whole_table() -> None:
    level = Level(64, 2**10, 0)
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    used = corners(points, level)[0].unique()
    assert len(used) == 2**10


def test_gradient_of_the_table_equals_finite_differences() -> None:
    encoding = HashEncoding(make_levels(2, 2, 9, 2**7), 2, torch.Generator().manual_seed(3)).double()
    table = torch.randn(encoding.table.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def features(table: Tensor) -> Tensor:
        return torch.func.functional_call(encoding, {"table": table}, (POINTS[:5], 2))

    assert torch.autograd.gradcheck(features, (table.requires_grad_(),))
