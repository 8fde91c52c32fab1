"""Linear layers of frozen networks on a CPU, by oneDNN.

torch hands products of float32 matrices to MKL, and has oneDNN for convolutions and lower precisions. On one core of
an AMD EPYC with AVX-512 the layers of ViT-H/14 run at 95 GFLOP/s by MKL and at 190 by oneDNN; on one without, at 75 to
87 by MKL and at 60 to 75 by oneDNN, so there MKL keeps them. Nothing is rounded that the other does not round: the
sums are taken in another order, as on another processor, and features are equal to 1e-6 of their size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FASTER = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""whether oneDNN is faster on this processor; elsewhere than with AVX-512 it was slower, or nobody measured"""


class LinearByOneDnn(TorchFunctionMode):
    """Within it linear layers that need no gradient run on oneDNN where it is faster, for float32 on a CPU.

    The operation is the one that torch's own compiler puts there. Where torch was built without it, as for macOS,
    all stays as it was.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """torch's hook: every call of a function of torch comes by."""
        if func is functional.linear and not kwargs and _suits(*args):
            return torch.ops.mkldnn._linear_pointwise(*args, *[None] * (3 - len(args)), "none", [], "")
        return func(*args, **(kwargs or {}))


def _suits(*tensors: torch.Tensor | None) -> bool:
    if not FASTER or torch.is_grad_enabled() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return all(
        tensor is None or (tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel())
        for tensor in tensors
    )
