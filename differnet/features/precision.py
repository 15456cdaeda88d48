"""Full precision on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Let convolutions on a GPU compute in full precision, as processors do, while this block runs.

    Left alone torch rounds what they multiply to ten bits ("TF32") on GPUs that can. That is as coarse as
    half precision: maps would lie a hundredth of their deviation beside those of a processor, and a model
    that was trained on one would not prove itself on the other.

    Args:
        device: Where they run; on a processor nothing is changed.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    # Since 2.9 torch has a switch for each kind of layer, and one for both, which it only reads where all
    # say the same: whoever else asks it in the meantime shall be answered.
    kinds = [cudnn.conv, cudnn.rnn] if hasattr(cudnn, "conv") else []
    before = [kind.fp32_precision for kind in kinds]
    rounded = "tf32" in before if kinds else cudnn.allow_tf32
    cudnn.allow_tf32 = False
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        cudnn.allow_tf32 = rounded
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
