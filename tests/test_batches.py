"""Batches of bounded size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from psdbench.batches import in_batches

SIZES = st.lists(st.integers(1, 12))


@given(SIZES, st.integers(1, 20))
def test_batches_keep_the_order_and_are_as_full_as_the_bound_allows(sizes: list[int], most: int) -> None:
    batches = list(in_batches(sizes, lambda size: size, most))
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch) <= most or len(batch) == 1 for batch in batches)
    assert all(sum(one) + other[0] > most for one, other in pairwise(batches))
