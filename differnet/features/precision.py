"""Full precision on a GPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The switches are torch's, and the whole process has but one of each: the first who needs full precision sets
# them, and the last who does sets them back.
_TAKING_TURNS = threading.Lock()
_inside = 0
_back: Callable[[], None] | None = None


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Let convolutions and products on a GPU compute in full precision, as on processors, while this runs.

    Left alone torch rounds what convolutions multiply to ten bits ("TF32") on GPUs that can; that is as
    coarse as half precision. Maps would lie a hundredth of their deviation beside those of a processor, and a
    model that was trained on one would not prove itself on the other. Products it rounds where somebody asked
    it to.

    Args:
        device: Where they run; on a processor nothing is changed.
    """
    global _inside, _back
    if device.type != "cuda":
        yield
        return
    with _TAKING_TURNS:
        if not _inside:
            _back = _switched()
        _inside += 1
    try:
        yield
    finally:
        with _TAKING_TURNS:
            _inside -= 1
            if not _inside and _back is not None:
                _back()


def _switched() -> Callable[[], None]:
    """Switch to full precision; return what switches back."""
    cudnn: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        older = [(each, each.allow_tf32) for each in (cudnn, products)]
        for each, _ in older:
            each.allow_tf32 = False

        def back_to_older() -> None:
            for each, rounded in older:
                each.allow_tf32 = rounded

        return back_to_older

    # Since 2.9 torch has a switch for each kind of layer, and the older one for all that cuDNN does, which it
    # only reads where all say the same: whoever else asks it in the meantime shall be answered.
    before = [(each, each.fp32_precision) for each in (cudnn.conv, cudnn.rnn, products)]
    rounded = any(precision == "tf32" for each, precision in before if each is not products)

    def put(convolutions_rounded: bool, precisions: list[tuple[Any, str]]) -> None:
        with warnings.catch_warnings():
            # Some versions call the older switch old.
            warnings.simplefilter("ignore")
            cudnn.allow_tf32 = convolutions_rounded
        for each, precision in precisions:
            each.fp32_precision = precision

    put(False, [(each, "ieee") for each, _ in before])
    return lambda: put(rounded, before)
