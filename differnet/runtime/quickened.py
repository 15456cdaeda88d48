"""A network's maps by OpenVINO, for training: it looks at hundreds of pictures before there is any export.

On 2 cores with AVX-512 a pass over pictures of 256 pixels takes OpenVINO some seven tenths of torch's time
(``reports/speed.md``). The maps are the same but for rounding, as those of an exported model are.
"""

from __future__ import annotations

import queue
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet.detection.sources import processors
from differnet.features import TILE, Backbone
from differnet.runtime.engines import OpenVino, imported_openvino
from differnet.runtime.graph import MapsGraph

# By how much a map may differ from torch's, of its largest figure: single precision leaves some 1e-5.
_TOLERANCE = 1e-4


class QuickMaps:
    """Maps of pictures of a few sizes; called like the `Backbone` whose place it takes, by several threads.

    Args:
        backbone: On the processor. Pictures of other sizes are left to it.
        sizes: Sides of the pictures that are expected, pixels.

    Raises:
        Exception: OpenVINO has no such layers; its own exceptions share no base but this.

    Attributes:
        name: Of the runtime, as provenance says it.
    """

    name = OpenVino.name

    def __init__(self, backbone: Backbone, sizes: Sequence[int]) -> None:
        self._backbone = backbone
        self._ready = {size: _requests(backbone, size) for size in set(sizes)}

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Return one ``(batch, channels, rows, columns)`` map a stride for ``(batch, 3, size, size)``."""
        ready = self._ready.get(pixels.shape[3])
        if ready is None or pixels.shape[2] != pixels.shape[3]:
            maps: list[Tensor] = self._backbone(pixels)
            return maps
        request = ready.get()
        try:
            looked = [_maps(request, each) for each in pixels.permute(0, 2, 3, 1).numpy()]
        finally:
            ready.put(request)
        return [torch.from_numpy(np.stack(m)).permute(0, 3, 1, 2) for m in zip(*looked, strict=True)]


def quick_maps(backbone: Backbone, sizes: Sequence[int]) -> QuickMaps | None:
    """Return a network's maps by OpenVINO, where it is installed and shows what torch does.

    Args:
        backbone: On the processor.
        sizes: Sides of the pictures that it will look at, pixels.
    """
    fitting = [size for size in sizes if size <= TILE]
    if not fitting or not OpenVino.installed():
        return None
    try:
        quick = QuickMaps(backbone, fitting)
        alike = all(_alike(backbone, quick, size) for size in fitting)
    except Exception:  # its own exceptions share no base but this
        # Layers that it does not know, or an installation that does not work: torch looks instead.
        return None
    return quick if alike else None


class _Cells(nn.Module):
    """A network's maps with the features of a cell side by side, as they lie in memory."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.maps = MapsGraph(backbone)

    def forward(self, cells: Tensor) -> tuple[Tensor, ...]:
        return tuple(m.permute(0, 2, 3, 1) for m in self.maps(cells))


def _requests(backbone: Backbone, size: int) -> queue.SimpleQueue[Any]:
    """Return a request a processor, each of which runs on one."""
    ov, shape = imported_openvino(), (1, size, size, 3)
    with warnings.catch_warnings(), torch.no_grad():
        # It traces the network in a way that torch calls old.
        warnings.simplefilter("ignore")
        graph = ov.convert_model(_Cells(backbone).eval(), example_input=torch.zeros(shape), input=[shape])
    lanes = processors()
    compiled = ov.Core().compile_model(
        graph,
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": lanes, "INFERENCE_NUM_THREADS": lanes},
    )
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(lanes):
        ready.put(compiled.create_infer_request())
    return ready


def _maps(request: Any, cells: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    request.infer({0: cells[None]}, share_inputs=True)
    # The request writes over its own memory the next time.
    return [np.array(tensor.data[0]) for tensor in request.output_tensors]


def _alike(backbone: Backbone, quick: QuickMaps, size: int) -> bool:
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    noise = noise.contiguous(memory_format=torch.channels_last)
    pairs = zip(backbone(noise), quick(noise), strict=True)
    return all(float((a - b).abs().max()) <= _TOLERANCE * float(a.abs().max()) for a, b in pairs)
