"""A graph on a GPU: captured once and played again, a batch at a time, with another batch behind it.

A mobile network is two hundred small steps, and a GPU is done with most of them before the program has asked
for the next. Captured, they are asked for at once. While one batch is computed the next one is decoded, and
copied from memory that the GPU reads by itself.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet.detection.detector import Detector
from differnet.features import Backbone, full_precision
from differnet.runtime.engines import RuntimeMissingError
from differnet.runtime.graph import FlatGraph, LookingGraph, MapsGraph, fitted

Inputs = Sequence[NDArray[np.float32]]
Outputs = list[NDArray[np.float32]]
Asked = TypeVar("Asked")

BATCH = 8
"""Pictures that are computed together. One alone takes the place of as many: a GPU chooses how it computes by
the size of a batch, and would say a little else of the same picture by itself."""
_IN_FLIGHT = 2
# Runs before a capture, in which libraries choose how they compute and take their memory.
_WARM = 3
# Torch captures one graph at a time.
_CAPTURING = threading.Lock()


class InHalf(nn.Module):
    """A network that computes in half precision, and gives its maps in full.

    Args:
        network: To a list of maps.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps."""
        # What autocast keeps from one run for the next is nothing that may be captured.
        with torch.autocast(pixels.device.type, torch.float16, cache_enabled=False):
            return [each.float() for each in self.network(pixels)]


def maps_graph(backbone: Backbone, *, half: bool) -> nn.Module:
    """Return a network's maps as a GPU computes them: normalisation folded into convolutions.

    Args:
        backbone: On the processor.
        half: Whether it computes in half precision.
    """
    maps = MapsGraph(backbone)
    maps.network = backbone.looking
    return InHalf(maps) if half else maps


def model_graph(detector: Detector, *, half: bool) -> FlatGraph:
    """Return the graph of a fitted detector, its network in half precision or in full."""
    graph = LookingGraph(detector)
    graph.network = maps_graph(fitted(detector)[0], half=half)
    return FlatGraph(graph)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what torch says of a GPU into the error of a runtime that cannot be used."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeMissingError(
            expected="a GPU that can run the model",
            found=next(iter(str(error).strip().splitlines()), type(error).__name__),
            remedy="Free its memory, or do without: openvino, onnxruntime and torch run it on the processor.",
        ) from error


class Flight:
    """A graph that is ready for batches, each of which is started, and later asked for.

    Args:
        graph: On the device; of a ``(batch, size, size, 3)`` a zoom to a row of tensors, ``(batch, ...)``
            each, without a step that waits for the device.
        sizes: Sides of the inputs, pixels.
        device: Where it runs. On a processor a batch is computed when it is started.
    """

    def __init__(self, graph: nn.Module, sizes: Sequence[int], device: torch.device) -> None:
        self._number = 0
        self._graph, self._device, self._gpu = graph, device, device.type == "cuda"
        shapes = [(BATCH, size, size, 3) for size in sizes]
        # Memory that stays where it is: a GPU copies it while the program goes on.
        self._given = [torch.zeros(shape, pin_memory=self._gpu) for shape in shapes]
        self._inputs = [torch.zeros(shape, device=device) for shape in shapes] if self._gpu else self._given
        self._found: list[Tensor] = []
        if self._gpu:
            with _CAPTURING:
                self._capture()

    @torch.no_grad()
    def _capture(self) -> None:
        # What torch says of CUDA's own objects is not typed.
        cuda: Any = torch.cuda
        self._stream: Any = cuda.Stream(self._device)
        # Who waits for it leaves the processor to those who decode.
        self._done: Any = cuda.Event(blocking=True)
        # What was put on the device until now was put there from another stream.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with full_precision(self._device), torch.cuda.stream(self._stream):
            for _ in range(_WARM):
                self._graph(*self._inputs)
            self._stream.synchronize()
            self._played = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._played, stream=self._stream, capture_error_mode="thread_local"):
                self._outputs: tuple[Tensor, ...] = self._graph(*self._inputs)
        self._found = [torch.zeros(o.shape, dtype=o.dtype, pin_memory=True) for o in self._outputs]

    @torch.no_grad()
    def start(self, pictures: Sequence[Inputs]) -> None:
        """Start a batch; what was found of the one before is gone then.

        Args:
            pictures: Inputs of each, 1 to `BATCH`.
        """
        self.wait()
        self._number = len(pictures)
        for zoom, given in enumerate(self._given):
            for place, inputs in enumerate(pictures):
                given[place] = torch.from_numpy(inputs[zoom][0])
        if not self._gpu:
            self._found = list(self._graph(*self._inputs))
            return
        with torch.cuda.stream(self._stream):
            for there, given in zip(self._inputs, self._given, strict=True):
                there.copy_(given, non_blocking=True)
            self._played.replay()
            for found, output in zip(self._found, self._outputs, strict=True):
                found.copy_(output, non_blocking=True)
            self._done.record(self._stream)

    def wait(self) -> None:
        """Return when the batch is done; at once where none was started."""
        if self._gpu:
            self._done.synchronize()

    def results(self) -> list[Outputs]:
        """Wait for the batch, and return the outputs of every picture, a batch of one each."""
        self.wait()
        # The next batch writes over this memory.
        arrays = [np.array(found[: self._number].numpy()) for found in self._found]
        return [[array[i : i + 1] for array in arrays] for i in range(self._number)]


class Flights:
    """A graph for single pictures, and for many.

    Args:
        graph: On the device, see `Flight`.
        sizes: Sides of its inputs, pixels.
        device: Where it runs.

    Raises:
        RuntimeMissingError: The device refuses the graph.
    """

    def __init__(self, graph: nn.Module, sizes: Sequence[int], device: torch.device) -> None:
        self._graph, self._sizes, self._device = graph, tuple(sizes), device
        # Those that nobody uses.
        self._idle: deque[Flight] = deque()
        with self._borrowed(1):
            pass

    @classmethod
    def of_model(cls, folder: Path, device: torch.device, *, half: bool) -> Flights:
        """Put the graph of the model in a folder on a device.

        Args:
            folder: Of the model.
            device: Where to.
            half: Whether the network computes in half precision.

        Raises:
            BundleError: The model is not as it was written.
            RuntimeMissingError: The device refuses the graph.
        """
        detector = Detector.load(folder, "cpu")
        return cls.of_graph(model_graph(detector, half=half), detector.settings.sizes, device)

    @classmethod
    def of_graph(cls, graph: nn.Module, sizes: Sequence[int], device: torch.device) -> Flights:
        """Put a copy of a graph on a device; it is left where it is.

        Raises:
            RuntimeMissingError: The device refuses the graph.
        """
        with _told():
            copied = copy.deepcopy(graph).to(device)
        return cls(copied, sizes, device)

    @contextmanager
    def _borrowed(self, number: int) -> Iterator[list[Flight]]:
        """Give somebody flights of their own: while one stream waits to be asked, another one may run."""
        mine: list[Flight] = []
        try:
            with _told():
                while len(mine) < number:
                    try:
                        mine.append(self._idle.pop())
                    except IndexError:
                        mine.append(Flight(self._graph, self._sizes, self._device))
            yield mine
        finally:
            # Where somebody wants no more of it, or something failed, the next one uses the same memory: a
            # flight waits for what is still under way before it starts.
            self._idle.extend(mine)

    def run(self, inputs: Inputs) -> Outputs:
        """Return the outputs of one picture."""
        with self._borrowed(1) as (flight,), _told():
            flight.start([inputs])
            return flight.results()[0]

    def stream(
        self, asked: Iterable[Asked], inputs: Callable[[Asked], Inputs]
    ) -> Iterator[tuple[Asked, Outputs]]:
        """Run the graph for many; see `differnet.runtime.engines.Engine.stream`."""
        with self._borrowed(_IN_FLIGHT) as mine:
            free, flying = deque(mine), deque[tuple[list[Asked], Flight]]()
            batch: list[tuple[Asked, Inputs]] = []

            def started() -> None:
                flight = free.popleft()
                with _told():
                    flight.start([given for _, given in batch])
                flying.append(([each for each, _ in batch], flight))
                batch.clear()

            def landed() -> Iterator[tuple[Asked, Outputs]]:
                some, flight = flying.popleft()
                with _told():
                    results = flight.results()
                free.append(flight)
                yield from zip(some, results, strict=True)

            for each in asked:
                batch.append((each, inputs(each)))
                if len(batch) == BATCH:
                    if not free:
                        yield from landed()
                    started()
            if batch:
                if not free:
                    yield from landed()
                started()
            while flying:
                yield from landed()
