"""How fast a model inspects, beside the bare network in the same runtime and the same run.

Times of a shared machine mean little by themselves: everything that is compared runs in turn, round by
round, so that what disturbs one disturbs all.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from differnet.detection.detector import Detector
from differnet.detection.inspector import Inspector
from differnet.detection.sources import processors
from differnet.features import TO_THE_END, Backbone, WeightsError, find_weights
from differnet.images.reading import read_image
from differnet.records import DiffernetError, Picture
from differnet.runtime.engines import ENGINES, Cuda, Engine
from differnet.runtime.export import onnx_graph, write_graph
from differnet.runtime.exported import TORCH, ExportedDetector, exports_in
from differnet.runtime.graph import MapsGraph
from differnet.runtime.on_gpu import maps_graph

Told = Callable[[str, int, int], None]

_WARM = 3
# Pictures that go through the bare network of torch together, as they do when a model inspects many.
_BATCH = 8


class BenchError(DiffernetError):
    """Too little to measure with."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of something that was done again and again.

    Attributes:
        p50, p95, p99: Percentiles.
        least: The quickest.
    """

    p50: float
    p95: float
    p99: float
    least: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Sum up what was measured."""
        milliseconds = 1000 * np.asarray(seconds)
        p50, p95, p99 = (float(p) for p in np.percentile(milliseconds, (50, 95, 99)))
        return cls(p50, p95, p99, float(milliseconds.min()))


@dataclass(frozen=True)
class Cold:
    """A command that inspects one picture, from nothing.

    Attributes:
        seconds: Until it ends.
        megabytes: That it held at most.
    """

    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Speed:
    """What one runtime takes for the same pictures.

    Attributes:
        runtime: Its name.
        whole: Whether ``bare`` is the whole network. Where its weights are not installed there is only what
            the model holds of it: as far as the model looks.
        bare: The network alone, of prepared input, one picture at a time.
        picture: From a decoded picture to its inspection, one at a time.
        file: From a file to its inspection, one at a time.
        picture_ratio: Median of the rounds' ratios of ``picture`` to ``bare``.
        file_ratio: Likewise of ``file``.
        bare_rate: Pictures a second through the network alone, many at a time.
        rate: Pictures a second from files to inspections, many at a time.
        rate_share: Median of the rounds' shares of ``rate`` in ``bare_rate``.
        cold: `differnet inspect` of one picture; ``None`` where it was not asked for.
    """

    runtime: str
    whole: bool
    bare: Times
    picture: Times
    file: Times
    picture_ratio: float
    file_ratio: float
    bare_rate: float
    rate: float
    rate_share: float
    cold: Cold | None

    def to_json(self) -> dict[str, Any]:
        """Return plain fields."""
        return asdict(self)


@dataclass(frozen=True)
class _Bare:
    """The network alone, in one runtime."""

    single: Callable[[NDArray[np.float32]], object]
    many: Callable[[Sequence[NDArray[np.float32]]], object]


def measure(
    model: Path,
    files: Sequence[Path],
    runtimes: Sequence[str] = (),
    *,
    rounds: int = 50,
    cold: bool = True,
    told: Told | None = None,
) -> list[Speed]:
    """Measure how fast a model inspects.

    Args:
        model: Its folder.
        files: Pictures, at least one. They are taken in turn.
        runtimes: ``torch``, or one that the model was exported to; none takes all of them.
        rounds: Of single pictures; a tenth as many go over all files.
        cold: Also start the program anew for one picture.
        told: Called with (runtime, rounds done, rounds in all).

    Raises:
        BenchError: No picture can be read.
        BundleError: The model or an export of it is not sound.
        RuntimeMissingError: A runtime is not installed, or the model was not exported to it.
    """
    detector = Detector.load(model, "cpu")
    pictures: list[Picture] = []
    readable: list[Path] = []
    for path in files:
        with contextlib.suppress(DiffernetError):
            pictures.append(read_image(path, detector.settings.reading))
            readable.append(path)
    if not pictures:
        raise BenchError(
            expected="pictures to measure with",
            found=f"{len(files)} files, none readable",
            remedy="Give some.",
        )
    exports = exports_in(model)
    installed = [name for name in exports if ENGINES[name].installed()]
    chosen = list(runtimes) or [TORCH, *installed]
    network, whole = _whole_network(detector)
    found: list[Speed] = []
    for name in chosen:
        inspector: Inspector = detector if name == TORCH else ExportedDetector.load(model, name)
        half = name in exports and exports[name].precision == "float16"
        with _bare(network, detector.preprocessing_[0].size, name, half=half) as bare:
            taken = _measured(name, inspector, bare, pictures, readable, rounds, told)
        started = cold_start(model, readable[0], name) if cold else None
        found.append(replace(taken, whole=whole, cold=started))
    return found


def _measured(
    name: str,
    inspector: Inspector,
    bare: _Bare,
    pictures: Sequence[Picture],
    files: Sequence[Path],
    rounds: int,
    told: Told | None,
) -> Speed:
    inputs = [inspector.preprocessing_[0].cells(picture.pixels)[None] for picture in pictures]
    single: dict[str, list[float]] = {"bare": [], "picture": [], "file": []}
    for number in range(-_WARM, rounds):
        place = number % len(pictures)
        tasks: dict[str, Callable[[], object]] = {
            "bare": partial(bare.single, inputs[place]),
            "picture": partial(inspector.inspect, pictures[place]),
            "file": partial(inspector.inspect, files[place]),
        }
        for task, run in tasks.items():
            taken = _seconds(run)
            if number >= 0:
                single[task].append(taken)
        if told is not None and number >= 0:
            told(name, number + 1, rounds)
    rates: dict[str, list[float]] = {"bare": [], "all": []}
    for number in range(-1, max(3, rounds // 10)):
        bare_taken = _seconds(lambda: bare.many(inputs))
        taken = _seconds(lambda: list(inspector.inspect_many(files)))
        if number >= 0:
            rates["bare"].append(len(inputs) / bare_taken)
            rates["all"].append(len(files) / taken)
    ratio = {task: float(np.median(np.divide(single[task], single["bare"]))) for task in ("picture", "file")}
    return Speed(
        runtime=name,
        whole=False,
        bare=Times.of(single["bare"]),
        picture=Times.of(single["picture"]),
        file=Times.of(single["file"]),
        picture_ratio=ratio["picture"],
        file_ratio=ratio["file"],
        bare_rate=float(np.median(rates["bare"])),
        rate=float(np.median(rates["all"])),
        rate_share=float(np.median(np.divide(rates["all"], rates["bare"]))),
        cold=None,
    )


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _whole_network(detector: Detector) -> tuple[Backbone, bool]:
    """Return the network of a model to its end, or as far as the model holds it, and whether that is all."""
    own = detector._network()
    if detector.settings.strides == TO_THE_END:
        return own, True
    with contextlib.suppress(WeightsError):
        weights = find_weights(own.name)
        if weights.sha256 == detector.provenance_["backbone"]["sha256"]:
            return Backbone(own.name, weights, TO_THE_END), True
    return own, False


@contextlib.contextmanager
def _bare(backbone: Backbone, size: int, runtime: str, *, half: bool) -> Iterator[_Bare]:
    """Make a network alone ready, in a runtime and in the precision in which the model's is run by it."""
    if runtime == TORCH:
        yield _Bare(lambda pixels: backbone(_planes(pixels)), lambda many: _torch_many(backbone, many))
        return
    with tempfile.TemporaryDirectory() as place:
        if runtime == Cuda.name:
            engine: Engine = Cuda.of_graph(_Maps(maps_graph(backbone, half=half)), [size])
        else:
            folder = Path(place)
            write_graph(ENGINES[runtime], onnx_graph(_Maps(MapsGraph(backbone)), [size]), folder)
            engine = ENGINES[runtime](folder)
        yield _Bare(
            lambda pixels: engine.run([pixels]),
            lambda many: [None for _ in engine.stream(many, lambda pixels: [pixels])],
        )


def _torch_many(backbone: Backbone, many: Sequence[NDArray[np.float32]]) -> None:
    for start in range(0, len(many), _BATCH):
        backbone(_planes(np.concatenate(many[start : start + _BATCH])))


def _planes(cells: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(cells).permute(0, 3, 1, 2)


class _Maps(nn.Module):
    """The maps of a network as a row of outputs."""

    def __init__(self, maps: nn.Module) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.maps(pixels))


def cold_start(model: Path, file: Path, runtime: str) -> Cold:
    """Start the program anew to inspect one picture.

    Raises:
        BenchError: It failed.
    """
    code = "import sys; from differnet.cli import main; sys.argv[0] = 'differnet'; sys.exit(main())"
    words = [sys.executable, "-c", code, "--quiet", "inspect", str(model), str(file), "--runtime", runtime]
    # Peak memory of a child is only told as the largest of all that have ended: one more process asks for it.
    asks = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", asks, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise BenchError(
            expected="differnet inspect to judge a picture",
            found=next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}"),
            remedy="Run it by hand to see why.",
        )
    unit = 1 if platform.system() == "Darwin" else 1024
    return Cold(seconds, int(done.stdout.split()[-1]) * unit / 2**20)


def machine() -> dict[str, Any]:
    """Return what figures of speed depend on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text("utf-8"))
        name = found[1] if found else name
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processor": name, "processors": processors(), "load": load}
