"""Products of matrices of integers in float32, whatever the process lets its libraries round.

The integers are below 2^11 in size and every partial sum is below 2^24: plain float32 and TF32 then give the exact
result. Where float32 operands may be rounded to bfloat16, which holds integers up to 2^8, one operand is cut in two.
"""

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LOW = 64.0  # an operand is 64 · high + low: both below 2^8
_ONEDNN = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")  # of oneDNN, which PyTorch does not know about


def may_round_operands() -> bool:
    """Whether float32 products of this process may round their operands to bfloat16."""
    if any(os.environ.get(name, "STRICT").upper() != "STRICT" for name in _ONEDNN):
        return True
    # The newer switches exist from PyTorch 2.9 on; the older one refuses to answer where both are in use.
    backend = torch.backends.mkldnn
    newer = [getattr(getattr(backend, name, None), "fp32_precision", "none") for name in ("matmul", "conv")]
    if "bf16" in newer or getattr(torch.backends, "fp32_precision", "none") == "bf16":
        return True
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:
        return True


def exact_product(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`product`, which is linear, of float32 integers x, below 2^11 in size; what it is with is at most 2^8 in size."""
    with torch.autocast(x.device.type, enabled=False):
        if not may_round_operands():
            return product(x)
        high = (x / _LOW).floor_()
        low = x - high * _LOW
        return product(high).mul_(_LOW).add_(product(low))


def check_products(device: torch.device) -> None:
    """Raises RuntimeError where `device` does not give the known result of large products, whatever the reason."""
    random = np.random.RandomState(0)
    a, b = random.randint(-128, 129, (64, 128)), random.randint(1, 1024, (128, 64))
    a[0], a[1] = 128, -128  # sums up to 2^24
    tap, image = random.randint(100, 129, (64, 1, 3, 3)), random.randint(900, 1024, (1, 64, 3, 3))
    expected = (torch.from_numpy(a @ b), torch.from_numpy((tap[:, 0] * image[0]).sum((1, 2))))
    x, y, w, v = (torch.from_numpy(q.astype(np.float32)).to(device) for q in (a, b, tap, image))
    found = (
        exact_product(partial(torch.matmul, x), y),
        exact_product(lambda part: F.conv2d(part, w, groups=64), v).flatten(),
    )
    if not all(torch.equal(e, f.cpu().long()) for e, f in zip(expected, found, strict=True)):
        raise RuntimeError(
            f"products of integers in float32 are not exact on {device}, so files would not decode elsewhere: some "
            "switch lets its library compute with fewer bits; turn it off, or use another device"
        )
