"""What runs an exported graph: onnxruntime, OpenVINO or a GPU, behind one small interface.

On a processor a graph takes one picture, and no torch. Several are judged by running several at once, which
suits processors better than a larger batch: each thread keeps its own picture in its own cache.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from differnet.detection.sources import processors
from differnet.records import DiffernetError
from differnet.runtime.onnx_scan import external_tensors

Inputs = Sequence[NDArray[np.float32]]
Outputs = list[NDArray[np.float32]]
Precision = Literal["float32", "float16"]
"""In which a network computes."""
Asked = TypeVar("Asked")
# Pictures that wait beside those that processors are at, for as long as the ones before them are judged.
_WAITING = 4


class RuntimeMissingError(DiffernetError):
    """A runtime that is not installed, or that refuses a graph."""


class Engine(ABC):
    """A graph that is ready to run.

    Args:
        folder: That holds the files of the graph.

    Attributes:
        name: Of the runtime.
        module: That is imported for it.
        files: Of a graph, by their names in its folder.

    Raises:
        RuntimeMissingError: The runtime is not installed, or refuses the graph.
    """

    name: str
    module: str
    files: tuple[str, ...]

    @classmethod
    def installed(cls) -> bool:
        """Whether the runtime can be imported here."""
        return find_spec(cls.module) is not None

    @classmethod
    def missing(cls) -> RuntimeMissingError:
        """Return the error that says that it is not installed here."""
        return RuntimeMissingError(
            expected=f"{cls.name} to run the exported model",
            found="it is not installed",
            remedy=f"Install it: pip install 'differnet[{cls.name}]', or choose --runtime torch.",
        )

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @classmethod
    def opened(cls, folder: Path, precision: Precision) -> Engine:
        """Return the graph in a folder, ready to run.

        Args:
            folder: That holds its files.
            precision: Of the network.

        Raises:
            RuntimeMissingError: The runtime is not installed, refuses the graph, or knows no such precision.
        """
        if precision != "float32":
            raise refused(cls.name, ValueError(f"a network in {precision}"))
        return cls(folder)

    @abstractmethod
    def run(self, inputs: Inputs) -> Outputs:
        """Run the graph on all processors for one picture.

        Args:
            inputs: One ``(1, size, size, 3)`` a zoom.

        Returns:
            The outputs in the graph's order, each with one picture.
        """

    @abstractmethod
    def stream(
        self, asked: Iterable[Asked], inputs: Callable[[Asked], Inputs]
    ) -> Iterator[tuple[Asked, Outputs]]:
        """Run the graph for pictures one after another, as many at a time as keep processors or a GPU busy.

        Results come when that many have been asked for, or all. Several streams may be open at a time.

        Args:
            asked: Whatever stands for a picture.
            inputs: Turns it into inputs; called from the thread that asks for results.

        Yields:
            What was asked with its outputs, in order.
        """


def _module(engine: type[Engine]) -> Any:
    if not engine.installed():
        raise engine.missing()
    # Through this module OpenVINO tells a server on the web that it was imported, and does without.
    # Nothing here asks another machine.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module(engine.module)


def imported_openvino() -> Any:
    """Return the module of OpenVINO.

    Raises:
        RuntimeMissingError: It is not installed.
    """
    return _module(OpenVino)


def refused(name: str, error: Exception) -> RuntimeMissingError:
    """Return the error that says why a runtime does not run a graph, in the first line of its own words."""
    return RuntimeMissingError(
        expected=f"a graph that {name} can run",
        found=next(iter(str(error).strip().splitlines()), type(error).__name__),
        remedy="Export the model again with the version that is installed here: differnet export.",
    )


@lru_cache(maxsize=1)
def leave_processors_alone() -> None:
    """Let numpy's products use one thread from now on, in this process.

    Its threads wait for the next product by spinning, on the very processors that a runtime needs for the
    next picture: with two of each, a picture took 20 ms instead of 14.
    """
    ThreadpoolController().limit(limits=1, user_api="blas")


class OnnxRuntime(Engine):
    """onnxruntime on the processor."""

    name = "onnxruntime"
    module = "onnxruntime"
    files = ("graph.onnx",)

    def __init__(self, folder: Path) -> None:
        self._ort = _module(OnnxRuntime)
        content = (folder / self.files[0]).read_bytes()
        # A tensor outside of the file would be read from anywhere on the disk.
        if found := external_tensors(content):
            raise refused(self.name, ValueError(f"a graph whose tensor {found[0]!r} lies in another file"))
        self._content = content
        self._single = self._session(processors())
        self._inputs = [given.name for given in self._single.get_inputs()]

    def _session(self, threads: int) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            return self._ort.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exceptions share no base but this
            raise refused(self.name, error) from error

    def run(self, inputs: Inputs) -> Outputs:
        """Run the graph for one picture; see `Engine.run`."""
        found: Outputs = self._single.run(None, dict(zip(self._inputs, inputs, strict=True)))
        return found

    @cached_property
    def _lane(self) -> Any:
        return self._session(1)

    def stream(
        self, asked: Iterable[Asked], inputs: Callable[[Asked], Inputs]
    ) -> Iterator[tuple[Asked, Outputs]]:
        """Run the graph for many; see `Engine.stream`."""
        lane = self._lane

        def go(given: Inputs) -> Outputs:
            found: Outputs = lane.run(None, dict(zip(self._inputs, given, strict=True)))
            return found

        with ThreadPoolExecutor(max_workers=processors()) as pool:
            waiting: deque[tuple[Asked, Any]] = deque()
            for each in asked:
                waiting.append((each, pool.submit(go, inputs(each))))
                if len(waiting) > 2 * processors():
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()


class OpenVino(Engine):
    """OpenVINO on the processor, in full precision: where it could, it would take bfloat16."""

    name = "openvino"
    module = "openvino"
    files = ("graph.xml", "graph.bin")

    def __init__(self, folder: Path) -> None:
        ov = _module(OpenVino)
        self._ov, self._core = ov, ov.Core()
        try:
            self._model = self._core.read_model(folder / self.files[0], folder / self.files[1])
            self._single = self._compile("LATENCY").create_infer_request()
        except RuntimeError as error:
            raise refused(self.name, error) from error
        self._alone = threading.Lock()
        # Requests of streams that have ended.
        self._idle: deque[list[Any]] = deque()

    def _compile(self, hint: str) -> Any:
        return self._core.compile_model(
            self._model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint}
        )

    def run(self, inputs: Inputs) -> Outputs:
        """Run the graph for one picture; see `Engine.run`."""
        with self._alone:
            self._single.infer(dict(enumerate(inputs)), share_inputs=True)
            return self._outputs(self._single)

    def _outputs(self, request: Any) -> Outputs:
        # The request writes over its own memory the next time.
        return [np.array(request.get_output_tensor(i).data) for i in range(len(self._model.outputs))]

    @cached_property
    def _many(self) -> Any:
        return self._compile("THROUGHPUT")

    def _lanes(self) -> list[Any]:
        number = int(self._many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        return [self._many.create_infer_request() for _ in range(max(2, number) + _WAITING)]

    def stream(
        self, asked: Iterable[Asked], inputs: Callable[[Asked], Inputs]
    ) -> Iterator[tuple[Asked, Outputs]]:
        """Run the graph for many; see `Engine.stream`."""
        # While one stream waits to be asked for more, another one may run: each has its requests for itself.
        try:
            lanes = self._idle.pop()
        except IndexError:
            lanes = self._lanes()
        free, waiting = deque(lanes), deque[tuple[Asked, Any, Inputs]]()
        try:
            for each in asked:
                given = inputs(each)
                if not free:
                    first, request, _ = waiting.popleft()
                    request.wait()
                    yield first, self._outputs(request)
                    free.append(request)
                request = free.popleft()
                # What a request shares has to stay until it has ended: it waits beside it.
                request.start_async(dict(enumerate(given)), share_inputs=True)
                waiting.append((each, request, given))
            while waiting:
                first, request, _ = waiting.popleft()
                request.wait()
                yield first, self._outputs(request)
        finally:
            # Where somebody wants no more of it, or something failed: the next stream uses the same requests.
            for _, request, _ in waiting:
                request.wait()
            self._idle.append(lanes)


def _driver() -> bool:
    """Whether there may be a GPU. Torch, which knows, takes seconds to import on machines that have none."""
    if "torch" in sys.modules or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


class Cuda(Engine):
    """A GPU, by torch. Nothing is written for it: the graph is built from the model's own densities.

    Args:
        folder: Of the export, in the model's own folder.
        precision: In which the network computes; the densities do in full.
    """

    name = "cuda"
    module = "torch"
    files = ()
    device = "cuda"

    @classmethod
    def installed(cls) -> bool:
        """Whether torch is installed and finds a GPU."""
        return super().installed() and _driver() and bool(import_module(cls.module).cuda.is_available())

    @classmethod
    def missing(cls) -> RuntimeMissingError:
        """Return the error that says that there is no GPU."""
        return RuntimeMissingError(
            expected="a GPU that torch can use",
            found="none",
            remedy="Do without: openvino and onnxruntime run a model on the processor.",
        )

    def __init__(self, folder: Path, precision: Precision = "float32") -> None:
        half = precision == "float16"
        self._flights = self._ready(lambda of, device: of.of_model(folder.parents[1], device, half=half))

    @classmethod
    def opened(cls, folder: Path, precision: Precision) -> Engine:
        """Return the graph of the model in whose folder an export lies; see `Engine.opened`."""
        return cls(folder, precision)

    @classmethod
    def of_graph(cls, graph: Any, sizes: Sequence[int]) -> Self:
        """Make a graph of torch ready.

        Args:
            graph: Of one ``(batch, size, size, 3)`` a zoom to a row of tensors; it is left where it is.
            sizes: Sides of its inputs, pixels.

        Raises:
            RuntimeMissingError: There is no GPU, or it refuses the graph.
        """
        engine = cls.__new__(cls)
        engine._flights = cls._ready(lambda of, device: of.of_graph(graph, sizes, device))
        return engine

    @classmethod
    def _ready(cls, made: Callable[[Any, Any], Any]) -> Any:
        if not cls.installed():
            raise cls.missing()
        from differnet.runtime.on_gpu import Flights

        return made(Flights, import_module(cls.module).device(cls.device))

    def run(self, inputs: Inputs) -> Outputs:
        """Run the graph for one picture; see `Engine.run`."""
        found: Outputs = self._flights.run(inputs)
        return found

    def stream(
        self, asked: Iterable[Asked], inputs: Callable[[Asked], Inputs]
    ) -> Iterator[tuple[Asked, Outputs]]:
        """Run the graph for many, a batch at a time; see `Engine.stream`."""
        yield from self._flights.stream(asked, inputs)


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (OpenVino, OnnxRuntime, Cuda)}
"""By name, the one that is usually fastest on a processor first."""


def write_openvino(content: bytes, folder: Path) -> None:
    """Write an ONNX graph in OpenVINO's own form, which reads faster and names no other file.

    Raises:
        RuntimeMissingError: OpenVINO is not installed, or refuses the graph.
    """
    ov = _module(OpenVino)
    try:
        ov.save_model(ov.Core().read_model(content, b""), folder / OpenVino.files[0], compress_to_fp16=False)
    except RuntimeError as error:
        raise refused(OpenVino.name, error) from error


def installed_runtimes() -> list[str]:
    """Return the names of the runtimes that are installed here, the usually fastest first."""
    return [name for name, engine in ENGINES.items() if engine.installed()]
