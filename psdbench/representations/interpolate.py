"""Weighted sums of table rows: the gather of every grid, and its gradient, fast and reproducible on CPUs.

The gather is one `embedding_bag`, its gradient one `index_add_` a channel; on CPUs that is much faster than
`grid_sample`, and there, unlike the gradient of plain indexing, it adds in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Interpolate(torch.autograd.Function):
    """Weighted sums of K table rows each, differentiable in the table: [R, C], [K, M], [K, M] to [C, M].

    The layouts are chosen for speed on CPUs: whole rows are read, and inner loops run along M.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        weights = weights.to(table.dtype)
        ctx.save_for_backward(rows, weights)
        ctx.length = len(table)
        bags, shares = _transposed(rows), _transposed(weights)
        return _transposed(functional.embedding_bag(bags, table, per_sample_weights=shares, mode="sum"))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        table = gradient.new_zeros(len(gradient), ctx.length)
        for column, share in zip(table, gradient, strict=True):
            column.index_add_(0, rows.view(-1), (weights * share).view(-1))
        return table.t(), None, None


def _transposed(matrix: Tensor) -> Tensor:
    """The transpose of a matrix of few rows or columns, in memory; `contiguous` takes five times as long."""
    result = matrix.new_empty(matrix.shape[::-1])
    few = 0 if matrix.shape[0] < matrix.shape[1] else 1
    for target, source in zip(result.unbind(1 - few), matrix.unbind(few), strict=True):
        target.copy_(source)
    return result
