"""What a backbone in 8-bit integers, or in half precision, costs in accuracy, and gains in speed.

    python benchmarks/quantised.py                       MTD, three seeds: reports/quantised.json
    python benchmarks/quantised.py --product aliens      another product
    python benchmarks/quantised.py --half --seeds 1      in half precision instead, ten minutes a seed
    python benchmarks/quantised.py --show                what was measured, in words

Three detectors judge the same test parts: one in full precision; the same one, with its calibration, on what
the network shows in integers; and one that was trained and calibrated on what it shows in integers. Only the
network is quantised, by onnxruntime's own tools: weights a channel, activations a tensor, their ranges from
training parts. Half precision is torch's own: a GPU's convolutions round as it does, and add up in full
precision too; here on a processor it is slow, and its time says nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from differnet.detection import Detector, DetectorSettings
from differnet.detection.sources import as_picture
from differnet.evaluation import image_auroc
from differnet.evaluation.benchmark import labelled_test_parts, running_commit
from differnet.features import Backbone
from differnet.images.layouts import read_layout
from differnet.records import Verdict
from differnet.runtime.engines import ENGINES, Engine, write_openvino
from differnet.runtime.export import onnx_graph
from differnet.runtime.graph import MapsGraph, fitted

OUT = Path(__file__).resolve().parents[1] / "reports" / "quantised.json"

# Training parts that the ranges of activations are taken from.
RANGED = 64
TIMED = 100


def main() -> None:
    """Measure, or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--product", default="mtd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--show", action="store_true")
    chosen = parser.parse_args()
    known: dict[str, Any] = json.loads(OUT.read_text()) if OUT.is_file() else {}
    if not chosen.show:
        measure = halved if chosen.half else measured
        runs = [measure(chosen.data / chosen.product, seed) for seed in range(chosen.seeds)]
        name = f"{chosen.product}, half precision" if chosen.half else chosen.product
        known[name] = {"commit": running_commit(), "runs": runs}
        OUT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    for product, found in known.items():
        print(f"{product}, {len(found['runs'])} seeds, commit {found['commit']}")
        for name in found["runs"][0]:
            values = [run[name] for run in found["runs"]]
            print(f"  {name}: {statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})")


def measured(folder: Path, seed: int) -> dict[str, float]:
    """Train, quantise, train again, and judge the labelled test parts by all three.

    Args:
        folder: Of a product.
        seed: Of training.
    """
    asked = Asked.of(folder)
    settings = DetectorSettings(seed=seed, device="cpu")
    full = Detector(settings).fit(asked.train).calibrate()
    plain = judged(full, asked.test)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        inputs = _inputs(full, asked.train)
        quantise(full, inputs[:RANGED], place)
        found = times(place, inputs[-TIMED:])
        with in_integers(place / "int8.onnx"):
            swapped = judged(full, asked.test)
            trained = judged(Detector(settings).fit(asked.train).calibrate(), asked.test)
    return found | asked.compared(plain, swapped, trained, "in integers")


def halved(folder: Path, seed: int) -> dict[str, float]:
    """Do the same in half precision, which needs no ranges.

    Args:
        folder: Of a product.
        seed: Of training.
    """
    asked = Asked.of(folder)
    settings = DetectorSettings(seed=seed, device="cpu")
    full = Detector(settings).fit(asked.train).calibrate()
    plain = judged(full, asked.test)
    pixels = torch.from_numpy(np.concatenate(_inputs(full, asked.train)[:RANGED])).permute(0, 3, 1, 2)
    maps = full._network()(pixels)
    with in_half():
        found = {
            f"map {i}, half precision off by, % of its deviation": 100
            * float((half - map_).std() / map_.std())
            for i, (map_, half) in enumerate(zip(maps, full._network()(pixels), strict=True))
        }
        swapped = judged(full, asked.test)
        trained = judged(Detector(settings).fit(asked.train).calibrate(), asked.test)
    return found | asked.compared(plain, swapped, trained, "in half precision")


@dataclass(frozen=True)
class Asked:
    """What is asked of a product.

    Attributes:
        train: Good parts to learn from.
        test: Parts to judge.
        defective: Which of these are.
    """

    train: list[Path]
    test: list[Path]
    defective: NDArray[np.bool_]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a product."""
        dataset = read_layout(folder)
        parts = labelled_test_parts(dataset)
        defective = np.array([str(part.label) != "good" for part in parts])
        return cls([part.path for part in dataset.train_good], [part.path for part in parts], defective)

    def compared(
        self,
        plain: dict[str, NDArray[Any]],
        swapped: dict[str, NDArray[Any]],
        trained: dict[str, NDArray[Any]],
        how: str,
    ) -> dict[str, float]:
        """Compare what `judged` found: in full precision, only judged otherwise, and trained otherwise."""
        found: dict[str, float] = {}
        others = {f"only judged {how}": swapped, f"trained {how}": trained}
        for name, told in {"full": plain, **others}.items():
            found[f"image AUROC, {name}, %"] = 100 * image_auroc(told["strangeness"], self.defective)
            flagged = told["verdict"][~self.defective] != Verdict.PASS
            found[f"good test parts that are not PASS, {name}, %"] = 100 * float(flagged.mean())
        for name, told in others.items():
            flips = told["verdict"] != plain["verdict"]
            found[f"verdicts that differ from full precision's, {name}, %"] = 100 * float(flips.mean())
        return found


def judged(detector: Detector, paths: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """Return strangeness and verdict of every picture."""
    records = [inspection.record for inspection in detector.inspect_many(paths)]
    return {
        "strangeness": np.array([record.strangeness for record in records], dtype=np.float64),
        "verdict": np.array([record.verdict for record in records], dtype=object),
    }


def _inputs(detector: Detector, paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    chosen = np.random.default_rng(detector.settings.seed).permutation(len(paths))[: RANGED + TIMED]
    pictures = (as_picture(paths[i], detector.settings.reading) for i in chosen)
    return [detector.preprocessing_[0].cells(picture.pixels)[None] for picture in pictures]


class _Flat(nn.Module):
    def __init__(self, maps: MapsGraph) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.maps(pixels))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, inputs: Sequence[NDArray[np.float32]]) -> None:
        self._given: Iterator[dict[str, NDArray[np.float32]]] = iter([{name: each} for each in inputs])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._given, None)


def quantise(detector: Detector, inputs: Sequence[NDArray[np.float32]], place: Path) -> None:
    """Write a detector's network as ``float.onnx``, and quantised as ``int8.onnx``."""
    backbone, _ = fitted(detector)
    plain, tidy = place / "float.onnx", place / "tidy.onnx"
    plain.write_bytes(onnx_graph(_Flat(MapsGraph(backbone)), detector.settings.sizes[:1]))
    quant_pre_process(str(plain), str(tidy))
    quantize_static(
        str(tidy),
        str(place / "int8.onnx"),
        _Reader(onnx.load(tidy).graph.input[0].name, inputs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def times(place: Path, inputs: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Return milliseconds of one picture by the network alone, in turn, for every runtime."""
    found: dict[str, float] = {}
    for name, engine in ENGINES.items():
        runs: dict[str, Engine] = {}
        for kind in ("float", "int8"):
            home = place / f"{name}-{kind}"
            home.mkdir()
            content = (place / f"{kind}.onnx").read_bytes()
            if name == "openvino":
                write_openvino(content, home)
            else:
                (home / engine.files[0]).write_bytes(content)
            runs[kind] = engine(home)
        taken: dict[str, list[float]] = {kind: [] for kind in runs}
        shown: dict[str, list[list[NDArray[Any]]]] = {kind: [] for kind in runs}
        for given in inputs:
            for kind, run in runs.items():
                started = time.perf_counter()
                maps = run.run([given])
                taken[kind].append(1000 * (time.perf_counter() - started))
                shown[kind].append([np.array(m) for m in maps])
        found |= {f"network alone, {name} {kind}, ms": statistics.median(of) for kind, of in taken.items()}
        for stride, (plain, whole) in enumerate(
            zip(*(map(np.concatenate, zip(*of, strict=True)) for of in shown.values()), strict=True)
        ):
            error = np.sqrt(np.square(whole - plain).mean() / plain.var())
            found[f"map {stride} of {name}, integers off by, % of its deviation"] = 100 * float(error)
    return found


@contextmanager
def in_integers(graph: Path) -> Iterator[None]:
    """Let every backbone show what a quantised graph does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(_: Backbone, pixels: Tensor) -> list[Tensor]:
        rows = [session.run(None, {name: each[None].numpy()}) for each in pixels.permute(0, 2, 3, 1)]
        return [torch.from_numpy(np.concatenate(of)) for of in zip(*rows, strict=True)]

    with mock.patch.object(Backbone, "forward", forward):
        yield


@contextmanager
def in_half() -> Iterator[None]:
    """Let every backbone compute in half precision, and give its maps in full."""
    forward = Backbone.forward

    def halves(backbone: Backbone, pixels: Tensor) -> list[Tensor]:
        with torch.autocast(pixels.device.type, torch.float16):
            return [each.float() for each in forward(backbone, pixels)]

    with mock.patch.object(Backbone, "forward", halves):
        yield


if __name__ == "__main__":
    main()
