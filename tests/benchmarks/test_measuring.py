"""The instruments themselves: memory, FLOPs, lines and intervals against what is known."""

from __future__ import annotations

import pytest
import torch
from measuring import MB, Call, flops, in_turn, line, middle, peak_memory, products_per_second, ratios

CPU = torch.device("cpu")


def test_peak_memory_is_that_of_the_tensors_alive_together() -> None:
    def call() -> None:
        first = torch.zeros(MB // 4)  # 1 MB
        second = first + 1
        del first
        third = second * 2
        third.view(2, -1).add_(1)  # no new storage

    assert peak_memory(call, CPU) == pytest.approx(2.0)


def test_peak_memory_holds_what_a_graph_keeps() -> None:
    leaf = torch.ones(MB // 4, requires_grad=True)

    def call() -> None:
        leaf.exp().exp().exp().sum().backward()

    # three saved results; in the backward pass the gradient of each replaces the result it belongs to
    assert 3.0 <= peak_memory(call, CPU) <= 5.0


def test_flops_of_a_product() -> None:
    assert flops(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7


def test_a_product_takes_time() -> None:
    assert 1e6 < products_per_second(CPU, torch.float32, side=64) < 1e15


def test_calls_run_in_turn() -> None:
    order = list[str]()
    calls = [Call(name, lambda name=name: order.append(name)) for name in "ab"]  # type: ignore[misc]
    seconds = in_turn(calls, CPU, rounds=2, warmup=1)
    assert order == list("ababab")
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_a_ratio_is_the_median_of_rounds() -> None:
    assert ratios([4.0, 6.0, 30.0], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]) == (3.0, 2.0, 10.0)


def test_the_interval_of_a_median_holds_it_in_19_of_20_samples() -> None:
    draws = torch.randn(2000, 20, generator=torch.Generator().manual_seed(0)).tolist()
    held = sum(low <= 0 <= high for _, low, high in map(middle, draws)) / len(draws)
    assert 0.95 <= held < 0.99


def test_a_line_is_found_and_a_parabola_is_none() -> None:
    x = [1.0, 2.0, 4.0, 8.0]
    assert line(x, [3 + 2 * v for v in x]) == pytest.approx({"start": 3.0, "slope": 2.0, "r2": 1.0})
    assert line(x, [v**2 for v in x])["r2"] < 0.97
