"""A GPU judges as the model does. Where there is none, a processor stands for it, without captures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection.conftest import SIZE
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet.detection import BundleError, Detector
from differnet.detection.golden import check_golden, golden_pictures
from differnet.detection.manifest import EXPORTED
from differnet.features import Backbone, full_precision
from differnet.images.reading import write_png
from differnet.images.synthetic import render_part
from differnet.records import Verdict
from differnet.runtime import (
    ExportedDetector,
    ExportError,
    RuntimeMissingError,
    choose_runtime,
    exports_in,
    installed_runtimes,
    load_fastest,
)
from differnet.runtime.bench import measure
from differnet.runtime.engines import Cuda
from differnet.runtime.export import LARGEST_DEVIATION, LARGEST_DEVIATIONS, export
from differnet.runtime.exported import EXPORT
from differnet.runtime.graph import FlatGraph
from differnet.runtime.on_gpu import BATCH, Flight, Flights, InHalf, model_graph
from differnet.runtime.wholes import FoldedWhole
from runtime.test_exported import rewrite

Parts = Callable[[int], list[Path]]
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor stand for a GPU where there is none."""
    _stand_in(monkeypatch)


def _stand_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cuda, "device", HERE.type)
    patch.setattr(Cuda, "installed", classmethod(lambda cls: True))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures to compare on: a processor takes a tenth of a second for each in half precision."""
    folder = tmp_path_factory.mktemp("few")
    paths = [folder / f"{seed}.png" for seed in range(600, 606)]
    for path in paths:
        pixels = render_part(int(path.stem), size=SIZE).pixels
        if int(path.stem) % 2:
            pixels[20:40, 20:60] = 255
        write_png(path, pixels)
    return paths


@pytest.fixture(scope="module", params=["float16", "float32"])
def precision(request: pytest.FixtureRequest) -> str:
    """In which the network computes."""
    return str(request.param)


@pytest.fixture(scope="module")
def once(
    exported: Path, plain: Detector, few: list[Path], precision: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model that was exported to a GPU, beside the other runtimes; not to be changed."""
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("on_gpu") / "model"))
    with pytest.MonkeyPatch.context() as patch:
        _stand_in(patch)
        if precision == "float32":
            patch.setitem(LARGEST_DEVIATIONS, "float16", -1.0)
        assert export(plain, folder, ["cuda"], few)["cuda"].precision == precision
    return folder


@pytest.fixture
def on_gpu(once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(once, tmp_path / "on_gpu"))


def test_it_judges_as_the_model_does(on_gpu: Path, plain: Detector, precision: str, parts: Parts) -> None:
    facts = exports_in(on_gpu)["cuda"]
    assert facts.parity.flips == 0
    assert facts.precision == precision
    # Half precision is told from full by what it changes.
    assert (facts.parity.deviation <= LARGEST_DEVIATION) == (precision == "float32")
    assert sorted(facts.milliseconds) == ["cuda", "torch"]
    # More than two batches are in flight, and the last one is not full.
    sound = parts(3 * BATCH + 3)
    sound[1].write_bytes(b"no picture")
    own = [i.record for i in plain.inspect_many(sound)]
    told = [i.record for i in ExportedDetector.load(on_gpu, "cuda").inspect_many(sound)]
    assert [r.path for r in told] == [str(path) for path in sound]
    assert [r.verdict for r in told] == [r.verdict for r in own]
    device = "cuda" if precision == "float32" else "cuda float16"
    assert {r.device for r in told if r.verdict is not Verdict.INVALID} == {device}
    for mine, other in zip(own, told, strict=True):
        assert (mine.strangeness is None) == (other.strangeness is None)
        if mine.strangeness is not None:
            allowed = 2e-3 if precision == "float32" else 0.1
            assert other.strangeness == pytest.approx(mine.strangeness, abs=allowed)


def test_one_picture_and_many_are_judged_alike(on_gpu: Path, parts: Parts) -> None:
    detector = ExportedDetector.load(on_gpu, "cuda")
    sound = parts(BATCH + 2)
    many = [i.record.strangeness for i in detector.inspect_many(sound)]
    alone = [detector.inspect(path).record.strangeness for path in sound]
    assert many == pytest.approx(alone, abs=1e-4)
    assert len({round(each or 0.0, 6) for each in many}) == len(sound)


def test_what_half_precision_changes_is_bounded(on_gpu: Path, precision: str) -> None:
    detector = ExportedDetector.load(on_gpu, "cuda")
    pictures = golden_pictures(detector._manifest.golden.seed, detector.settings.reading)
    evidence, golden = detector._evidence(pictures), detector._manifest.golden.figures
    check_golden(evidence, golden, half=True)
    if precision == "float16":
        with pytest.raises(BundleError):
            check_golden(evidence, golden)
    away = replace(evidence, whole=1.02 * evidence.whole + 0.02)
    with pytest.raises(BundleError):
        check_golden(away, golden, half=True)


def test_half_precision_that_judges_otherwise_is_not_taken(
    model: Path, plain: Detector, few: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = InHalf.forward

    def careless(self: InHalf, pixels: Tensor) -> list[Tensor]:
        return [1.2 * maps for maps in true(self, pixels)]

    monkeypatch.setattr(InHalf, "forward", careless)
    told: list[str] = []
    found = export(plain, model, ["cuda"], few, told.append)["cuda"]
    assert found.precision == "float32"
    assert found.parity.deviation <= LARGEST_DEVIATION
    assert "half" not in told[0]


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_others_know_no_half_precision(model: Path, runtime: str) -> None:
    rewrite(model / EXPORTED / runtime, precision="float16")
    with pytest.raises(RuntimeMissingError, match="float16"):
        ExportedDetector.load(model, runtime)


def test_only_the_network_computes_in_half_precision(plain: Detector) -> None:
    pixels = torch.rand(2, SIZE, SIZE, 3)
    half, full = model_graph(plain, half=True), model_graph(plain, half=False)
    seen: set[torch.dtype] = set()
    first = next(m for m in half.looking.network.modules() if isinstance(m, nn.Conv2d))
    hook = first.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    found = half(pixels)
    hook.remove()
    assert seen == {torch.float16}
    for rounded, exact in zip(found, full(pixels), strict=True):
        assert rounded.dtype == exact.dtype == torch.float32
        assert not torch.equal(rounded, exact)


def test_it_is_measured_beside_its_own_bare_network(
    on_gpu: Path, precision: str, few: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    ready = Cuda.of_graph

    def noted(graph: nn.Module, sizes: Any) -> Cuda:
        seen.append(any(isinstance(module, InHalf) for module in graph.modules()))
        return ready(graph, sizes)

    monkeypatch.setattr(Cuda, "of_graph", noted)
    (speed,) = measure(on_gpu, few[:2], ["cuda"], rounds=1, cold=False)
    assert (speed.runtime, seen) == ("cuda", [precision == "float16"])
    assert speed.rate > 0
    assert speed.bare_rate > 0


def test_it_is_chosen_where_it_is_fastest_and_there(on_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for runtime, taken in (("cuda", 1.0), ("openvino", 3.0), ("onnxruntime", 5.0)):
        rewrite(on_gpu / EXPORTED / runtime, milliseconds={"torch": 9.0, runtime: taken})
    assert choose_runtime(on_gpu) == "cuda"
    monkeypatch.setattr(Cuda, "installed", classmethod(lambda cls: False))
    assert choose_runtime(on_gpu) == "openvino"
    assert "cuda" not in installed_runtimes()
    with pytest.raises(RuntimeMissingError, match="a GPU that torch can use"):
        export(Detector.load(on_gpu, "cpu"), on_gpu, ["cuda"])
    with pytest.raises(RuntimeMissingError, match="a GPU that torch can use") as refused:
        ExportedDetector.load(on_gpu, "cuda")
    assert "openvino" in str(refused.value)


@pytest.mark.parametrize("fault", ["no room", "refused", "refused for many", "fails", "judges otherwise"])
def test_a_gpu_that_fails_costs_the_others_nothing(
    model: Path, plain: Detector, few: list[Path], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: type[Exception] = ExportError if fault == "judges otherwise" else RuntimeMissingError
    made, true, flights = Flight.__init__, Flight.results, list[Flight]()

    def failing(self: Flight, graph: nn.Module, sizes: Any, device: torch.device) -> None:
        # The second one is made when many pictures come.
        if fault == "refused" or (fault == "refused for many" and flights):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        flights.append(self)
        made(self, graph, sizes, device)

    def careless(self: Flight) -> list[list[NDArray[np.float32]]]:
        if fault == "fails":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        changed = 1.001 if fault == "judges otherwise" else 1.0
        return [[changed * array for array in outputs] for outputs in true(self)]

    def moved(self: nn.Module, *_: Any) -> nn.Module:
        if fault == "no room":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self

    monkeypatch.setattr(Flight, "__init__", failing)
    monkeypatch.setattr(Flight, "results", careless)
    monkeypatch.setattr(FlatGraph, "to", moved)
    before = exports_in(model)
    told: list[str] = []
    found = export(plain, model, (), few, told.append)
    assert sorted(found) == sorted(exports_in(model)) == sorted(before)
    assert not (model / EXPORTED / "cuda").exists()
    assert [words for words in told if words.startswith("cuda: left out")]
    flights.clear()
    # Who asks for it by name hears why, and everything stands as it was.
    with pytest.raises(expected):
        export(plain, model, ["cuda"], few)
    assert sorted(exports_in(model)) == sorted(before)


def test_what_lies_in_its_export_is_checked_as_others_are(on_gpu: Path) -> None:
    folder = on_gpu / EXPORTED / "cuda"
    assert sorted(path.name for path in folder.iterdir()) == [EXPORT, "wholes.safetensors"]
    wholes = folder / "wholes.safetensors"
    content = bytearray(wholes.read_bytes())
    content[-1] ^= 1
    wholes.write_bytes(content)
    with pytest.raises(Exception, match="sha256"):
        ExportedDetector.load(on_gpu, "cuda")


def test_it_needs_nothing_that_writes_graphs(
    model: Path, plain: Detector, few: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet.runtime.export.find_spec", lambda name: None)
    assert list(export(plain, model, ["cuda"], few)) == ["cuda"]
    with pytest.raises(RuntimeMissingError, match="onnx"):
        export(plain, model, ["openvino"], few)


class Sums(nn.Module):
    """Of two inputs a picture: their sums, and the first one's largest figure."""

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return one row each."""
        return first.sum((1, 2, 3)) + second.sum((1, 2, 3)), first.amax((1, 2))


def given(number: int) -> list[NDArray[np.float32]]:
    """Return the inputs of a picture that is like no other."""
    return [np.full((1, size, size, 3), number, np.float32) for size in (4, 6)]


def test_batches_keep_their_order_and_their_pictures() -> None:
    flights = Flights.of_graph(Sums(), (4, 6), HERE)
    for number in (0, 1, BATCH, BATCH + 1, 5 * BATCH - 1):
        found = list(flights.stream(range(number), given))
        assert [asked for asked, _ in found] == list(range(number))
        for asked, (total, largest) in found:
            assert total.tolist() == [asked * 3 * (16 + 36)]
            assert largest.tolist() == [[asked] * 3]
    assert flights.run(given(7))[0].tolist() == [7 * 3 * 52]


def test_the_next_batch_is_started_before_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    start, results = Flight.start, Flight.results

    def starting(self: Flight, pictures: Any) -> None:
        told.append("start")
        start(self, pictures)

    def landing(self: Flight) -> Any:
        told.append("land")
        return results(self)

    monkeypatch.setattr(Flight, "start", starting)
    monkeypatch.setattr(Flight, "results", landing)
    list(Flights.of_graph(Sums(), (4, 6), HERE).stream(range(4 * BATCH), given))
    assert told == ["start", "start", "land", "start", "land", "start", "land", "land"]


@pytest.mark.parametrize("how", ["left", "failed"])
def test_a_stream_that_ends_early_leaves_its_memory_to_the_next(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    start, wait = Flight.start, Flight.wait

    def starting(self: Flight, pictures: Any) -> None:
        start(self, pictures)
        told.append("started")

    def waiting(self: Flight) -> None:
        wait(self)
        told.append("waited")

    monkeypatch.setattr(Flight, "start", starting)
    monkeypatch.setattr(Flight, "wait", waiting)
    flights = Flights.of_graph(Sums(), (4, 6), HERE)

    def asked() -> Iterator[int]:
        yield from range(2 * BATCH + 1)
        if how == "failed":
            raise FloatingPointError("overflow")
        yield from range(100)

    stream: Any = flights.stream(asked(), given)
    if how == "failed":
        with pytest.raises(FloatingPointError):
            list(stream)
    else:
        next(stream)
        stream.close()
    before = len(flights._idle)
    told.clear()
    assert [number for number, _ in flights.stream(range(3 * BATCH), given)] == list(range(3 * BATCH))
    # The same memory, and only when what was under way has ended.
    assert (before, len(flights._idle)) == (2, 2)
    assert told[:2] == ["waited", "started"]


def test_streams_that_take_turns_keep_their_pictures() -> None:
    # As on a GPU: what was found is read when it is asked for, from memory that a later batch writes over.
    flights = Flights.of_graph(Sums(), (4, 6), HERE)
    first, second = (flights.stream(range(at, at + 5 * BATCH), given) for at in (0, 1000))
    for (one, here), (other, there) in zip(first, second, strict=True):
        assert other == one + 1000
        assert here[1].tolist() == [[one] * 3]
        assert there[1].tolist() == [[other] * 3]
        assert flights.run(given(7))[1].tolist() == [[7] * 3]
    # Two streams and a picture between them; none is made anew for the next.
    assert len(flights._idle) == 5
    list(flights.stream(range(3 * BATCH), given))
    assert len(flights._idle) == 5


def test_a_graph_stays_where_it_is() -> None:
    graph = nn.Linear(3, 3)
    Cuda.of_graph(graph, [4])
    assert graph.weight.device.type == "cpu"


@pytest.mark.skipif(HERE.type != "cuda", reason="there is no GPU here: nothing can be captured")
def test_a_capture_is_played_again_with_other_pictures() -> None:
    flight = Flight(Sums().to(HERE), (4, 6), HERE)
    for number in (3, 5):
        flight.start([given(number)])
        assert flight.results()[0][0].tolist() == [number * 3 * 52]


def switches() -> list[str]:
    """Return how precise convolutions, what recurs, and products are on a GPU."""
    cudnn: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        return [str(each.allow_tf32) for each in (cudnn, products)]
    return [each.fp32_precision for each in (cudnn.conv, cudnn.rnn, products)]


def test_a_gpu_is_exact_and_only_for_us() -> None:
    before = switches()
    assert before[0] in ("tf32", "True"), "torch rounds by default: without that this test would show nothing"
    gpu = torch.device("cuda")
    with full_precision(torch.device("cpu")):
        assert switches() == before
    with full_precision(gpu):
        with full_precision(gpu):
            assert set(switches()) <= {"ieee", "False"}
        # Whoever else is still at it goes on as it was.
        assert set(switches()) <= {"ieee", "False"}
        # Who asks the older way is answered.
        assert torch.backends.cudnn.allow_tf32 is False
    assert switches() == before
    with pytest.raises(FloatingPointError), full_precision(gpu):
        raise FloatingPointError("overflow")
    assert switches() == before


def test_a_network_looks_in_full_precision(plain: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = plain.backbone_
    assert isinstance(backbone, Backbone)
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "differnet.features.backbone.full_precision", lambda device: full_precision(torch.device("cuda"))
    )
    hook = backbone.looking.register_forward_pre_hook(lambda module, inputs: seen.append(switches()))
    backbone(torch.zeros(1, 3, 64, 64))
    hook.remove()
    assert len(seen) == 1
    assert set(seen[0]) <= {"ieee", "False"}


def test_what_the_wholes_say_is_compared_too(
    model: Path, plain: Detector, few: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = FoldedWhole.evidence

    def careless(self: FoldedWhole, *maps: Any) -> Any:
        found = true(self, *maps)
        return found._replace(energy=found.energy * 1.001)

    monkeypatch.setattr(FoldedWhole, "evidence", careless)
    monkeypatch.setitem(LARGEST_DEVIATIONS, "float16", -1.0)
    with pytest.raises(ExportError, match="cuda to judge as the model does"):
        export(plain, model, ["cuda"], few)


def test_torch_is_not_asked_where_no_driver_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert Cuda.installed() == torch.cuda.is_available()
    asked: list[str] = []

    def none(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr("differnet.runtime.engines.ctypes.CDLL", none)
    monkeypatch.setattr("differnet.runtime.engines.import_module", asked.append)
    assert Path("/dev/kfd").exists() or not Cuda.installed()
    assert not asked


def test_a_gpu_that_is_busy_is_done_without(on_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for runtime, taken in (("cuda", 1.0), ("openvino", 3.0), ("onnxruntime", 5.0)):
        rewrite(on_gpu / EXPORTED / runtime, milliseconds={"torch": 9.0, runtime: taken})

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Flight, "__init__", full)
    assert load_fastest(on_gpu).device == "openvino"
    with pytest.raises(RuntimeMissingError, match="out of memory") as refused:
        load_fastest(on_gpu, runtime="cuda")
    assert "Free its memory" in str(refused.value)
