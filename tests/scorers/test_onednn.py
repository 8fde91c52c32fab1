"""Linear layers by oneDNN: the same numbers, and only where nothing else is asked."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from psdbench.scorers import onednn
from psdbench.scorers.onednn import LinearByOneDnn

OPERATION = "mkldnn::_linear_pointwise"
HERE = hasattr(torch.ops.mkldnn, "_linear_pointwise")


@pytest.fixture(autouse=True)
def where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with AVX-512; the operation is there on others too."""
    monkeypatch.setattr(onednn, "FASTER", True)


def layer(inputs: int = 64, outputs: int = 96, bias: bool = True, **kind: torch.dtype) -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(inputs, outputs, bias, **kind)


def by_onednn(module: torch.nn.Module, given: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The result within the mode, and whether oneDNN made it."""
    with profile(activities=[ProfilerActivity.CPU]) as seen, LinearByOneDnn():
        result = module(given)
    return result, any(event.key == OPERATION for event in seen.key_averages())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64,), (1, 64), (3, 5, 64)])
def test_it_is_the_same_product(shape: tuple[int, ...], bias: bool) -> None:
    module, given = layer(bias=bias), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, used = by_onednn(module, given)
        assert used == HERE
        exact = functional.linear(
            given.double(), module.weight.double(), module.bias.double() if bias else None
        )
        assert found.shape == exact.shape
        assert (found - exact).abs().max() < 1e-5


def test_gradients_and_other_precisions_are_left_alone() -> None:
    given = torch.randn(4, 64)
    module = layer()
    found, used = by_onednn(module, given)
    found.sum().backward()
    assert not used
    assert module.weight.grad is not None
    with torch.no_grad():
        assert not by_onednn(layer(dtype=torch.float64), given.double())[1]
        assert not by_onednn(layer(), given[:0])[1]


def test_where_it_is_slower_the_layers_stay_with_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "FASTER", False)
    module, given = layer(), torch.randn(4, 64)
    with torch.no_grad():
        found, used = by_onednn(module, given)
        assert not used
        assert torch.equal(found, module(given))


def test_a_network_gives_the_same_within_and_without() -> None:
    torch.manual_seed(0)
    block = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    given = torch.randn(2, 10, 64)
    with torch.no_grad():
        plain = block(given)
        with LinearByOneDnn():
            torch.testing.assert_close(block(given), plain, atol=1e-5, rtol=1e-5)
