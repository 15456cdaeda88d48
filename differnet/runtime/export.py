"""Export a model to the runtimes that inspect quicker than torch, and prove that it judges as before."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import logging
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from differnet.detection.detector import Detector
from differnet.detection.evidence import RawEvidence
from differnet.detection.golden import golden_pictures
from differnet.detection.inspector import Inspector
from differnet.detection.judging import Calibration
from differnet.detection.manifest import EXPORTED, BundleError, Manifest, read_manifest, sealed
from differnet.detection.references import Reference
from differnet.detection.sources import as_picture
from differnet.detection.spoiling import broken_parts, reduced, wrong_inputs
from differnet.durable import whole_folder
from differnet.features import TILE
from differnet.images.reading import read_image
from differnet.records import DiffernetError, Picture
from differnet.runtime.engines import (
    ENGINES,
    Cuda,
    Engine,
    OnnxRuntime,
    OpenVino,
    Precision,
    RuntimeMissingError,
    installed_runtimes,
    write_openvino,
)
from differnet.runtime.exported import (
    EXPORT,
    TORCH,
    WHOLES,
    Export,
    ExportedDetector,
    Parity,
    outdated_exports,
)
from differnet.runtime.graph import FlatGraph, LookingGraph, folded_wholes
from differnet.runtime.on_gpu import model_graph

Told = Callable[[str], None]

LARGEST_DEVIATION = 1e-3
"""Of any figure, in its standard deviations over the calibration parts: promise P1 of ``design/trust.md``."""
LARGEST_DEVIATIONS: dict[Precision, float] = {"float32": LARGEST_DEVIATION, "float16": 0.5}
"""By the precision of the network. Tried once, figures of MTD's model moved by up to 0.2 in half precision;
how many verdicts that costs, and what in AUROC, is measured by ``benchmarks/quantised.py``."""

# A wrong input lies hundreds of standard deviations away, and float32 rounds in proportion: so much of that
# distance counts as a standard deviation too.
_FAR = 0.01
# Good parts that parity is tried on where no pictures are given, as they are and spoilt in every way.
_PARITY_PARTS, _SPOILT = 16, 3
# Pictures that are timed, and how often.
_TIMED, _ROUNDS = 4, 5
# Seconds between two runtimes' turns: threads of the one that was asked last wait by spinning for a while.
_QUIET = 0.02
_REMEDY = "Nothing was changed. Inspect with torch, and report this."
# Pictures that are compared at a time, and of these by themselves as well.
_TOGETHER, _ALONE = 25, 3
_VERSIONS = ("differnet", "torch", "onnx", "onnxruntime", "openvino")


class ExportError(DiffernetError):
    """A model that cannot be exported, or whose export judges otherwise than it does."""


def export(
    detector: Detector,
    folder: Path,
    runtimes: Sequence[str] = (),
    pictures: Sequence[Path] = (),
    told: Told | None = None,
) -> dict[str, Export]:
    """Export a model into its own folder, for the runtimes that are installed here.

    Each graph has to judge as the model does, by promise P1: no figure may differ by more than a thousandth
    of its standard deviation over the calibration parts, and no verdict may differ. Of a network in half
    precision, which only a GPU runs, figures may differ by half of it. An older export is replaced; where it
    fails, it stands as it was.

    Args:
        detector: As saved in ``folder``.
        folder: Of the model.
        runtimes: Names of `differnet.runtime.engines.ENGINES`; none takes all that are installed.
        pictures: That parity is tried on; by default small pictures of good parts that the model keeps, as
            they are and spoilt in every way.
        told: Called with what was found.

    Returns:
        What was written, by the runtime.

    Raises:
        RuntimeMissingError: One is not installed, or none is.
        ExportError: The model sees pictures in tiles, or a graph judges otherwise.
        BundleError: ``folder`` holds another model.
    """
    say = told or (lambda words: None)
    chosen = _chosen(runtimes)
    if reason := exportable(detector):
        raise ExportError(
            expected=f"a model that sees pictures of at most {TILE} pixels a side",
            found=reason,
            remedy="Inspect with torch, or train at a smaller image size.",
        )
    manifest = read_manifest(folder)
    if manifest.model_id != detector.model_id:
        raise ExportError(
            expected=f"model {detector.model_id} in {folder}",
            found=f"model {manifest.model_id}",
            remedy="Save the model first.",
        )
    looked_at = [read_image(path, detector.settings.reading) for path in pictures]
    looked_at = looked_at or parity_pictures(detector)
    # What stands on a GPU is timed there; graphs are made, and compared, on the processor that runs them.
    timed: dict[str, Inspector] = {TORCH: detector}
    if detector.device != "cpu":
        detector = Detector.load(folder, "cpu")
    found: dict[str, Export] = {}
    outdated = outdated_exports(folder)
    with whole_folder(folder / EXPORTED) as building:
        content = b""
        if any(ENGINES[name].files for name in chosen):
            content = onnx_graph(FlatGraph(LookingGraph(detector)), manifest.preprocessing.sizes)
        wholes = {
            f"{zoom}.{name}": array
            for zoom, whole in enumerate(folded_wholes(detector))
            for name, array in whole.arrays.items()
        }
        own = detector._evidence(looked_at)
        for name in chosen:
            place = building / name
            place.mkdir()
            write_graph(ENGINES[name], content, place)
            save_file(wholes, place / WHOLES)
            try:
                found[name], timed[name] = _proved(detector, manifest, name, place, wholes, looked_at, own)
            except (ExportError, RuntimeMissingError) as error:
                # A GPU that is there by chance must not cost a processor its exports.
                if runtimes or name != Cuda.name:
                    raise
                shutil.rmtree(place)
                say(f"{name}: left out. Expected {error.expected}; found {error.found}")
        taken = _milliseconds(timed, looked_at)
        for name, facts in found.items():
            times = {TORCH: taken[TORCH], name: taken[name]}
            found[name] = facts.model_copy(update={"milliseconds": times})
            (building / name / EXPORT).write_bytes(sealed(found[name].model_dump(mode="json")))
            how = " in half precision" if facts.precision == "float16" else ""
            say(
                f"{name}{how}: {taken[name]:.1f} ms a picture, torch {taken[TORCH]:.1f} ms; "
                f"{facts.parity.pictures} pictures judged alike, figures to {facts.parity.deviation:.1g} "
                "standard deviations"
            )
        for name in set(ENGINES) - set(chosen):
            older = folder / EXPORTED / name
            if older.is_dir() and not older.is_symlink() and name not in outdated:
                shutil.copytree(older, building / name)
    return found


def _proved(
    detector: Detector,
    manifest: Manifest,
    name: str,
    place: Path,
    wholes: Mapping[str, NDArray[Any]],
    pictures: Sequence[Picture],
    own: RawEvidence,
) -> tuple[Export, ExportedDetector]:
    """Open what was written for a runtime, and compare it with the model.

    Raises:
        RuntimeMissingError: The runtime refuses it.
        ExportError: It judges otherwise.
    """
    backbone, calibration = detector._network(), detector._judge().calibration
    facts = Export(
        model_id=detector.model_id,
        runtime=name,
        strides=list(backbone.strides),
        channels=list(backbone.channels),
        files={p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in place.iterdir()},
        parity=Parity(pictures=len(pictures), deviation=0.0, flips=0),
        milliseconds={},
        versions=_versions(),
    )

    def tried(precision: Precision) -> tuple[Export, ExportedDetector]:
        told = facts.model_copy(update={"precision": precision})
        if name == Cuda.name:
            graph = model_graph(detector, half=precision == "float16")
            engine: Engine = Cuda.of_graph(graph, manifest.preprocessing.sizes)
        else:
            engine = ENGINES[name].opened(place, precision)
        exported = ExportedDetector(manifest, told, engine, calibration, wholes)
        parity = compare(detector, exported, pictures, own)
        allowed = LARGEST_DEVIATIONS[precision]
        if parity.flips or parity.deviation > allowed:
            raise _otherwise(parity, name, allowed)
        try:
            # What is asked of it whenever it is opened.
            exported.prove()
        except BundleError as error:
            raise ExportError(expected=error.expected, found=error.found, remedy=_REMEDY) from error
        exported.export = told.model_copy(update={"parity": parity})
        return exported.export, exported

    # Only a GPU is much quicker in half precision; where a verdict is another one there it takes full.
    if name == Cuda.name:
        with contextlib.suppress(ExportError, RuntimeMissingError):
            return tried("float16")
    return tried("float32")


def _evidence_of(inspector: Inspector, pictures: Sequence[Picture]) -> RawEvidence:
    """Return evidence of pictures; more come at a time than a runtime has requests, or a GPU in flight."""
    # Large ones by the hundred would take gigabytes.
    starts = range(0, len(pictures), _TOGETHER)
    return RawEvidence.joined([inspector._evidence(list(pictures[i : i + _TOGETHER])) for i in starts])


def exportable(detector: Detector) -> str:
    """Say why a model cannot be exported; empty where it can."""
    side = max(detector.settings.sizes)
    return f"it sees pictures of {side} pixels a side, in tiles" if side > TILE else ""


def compare(
    detector: Detector,
    exported: ExportedDetector,
    pictures: Sequence[Picture],
    own: RawEvidence | None = None,
) -> Parity:
    """Compare an export with its model, picture by picture.

    Args:
        detector: The model, calibrated.
        exported: Its export.
        pictures: At least one.
        own: Evidence of the model, where it is known already.
    """
    raw = _evidence_of(detector, pictures) if own is None else own
    judge = detector._judge()
    before = [i.record.verdict for i in judge.judge_all(raw, pictures, 0.0)]
    # One picture takes another way than many.
    alone = RawEvidence.joined([exported._evidence([picture]) for picture in pictures[:_ALONE]])
    deviation, flips = 0.0, 0
    for told in (_evidence_of(exported, pictures), alone):
        number = len(told.whole)
        deviation = max(deviation, _deviation(raw[:number], told, judge.calibration))
        after = [i.record.verdict for i in judge.judge_all(told, pictures[:number], 0.0)]
        flips = max(flips, sum(a is not b for a, b in zip(before, after, strict=False)))
    return Parity(pictures=len(pictures), deviation=deviation, flips=flips)


def _deviation(raw: RawEvidence, told: RawEvidence, calibration: Calibration) -> float:
    """Return by how much figures differ at most, in standard deviations; infinite where one is no number."""
    largest = 0.0
    for name, figures in raw.figures.items():
        good = getattr(calibration, name, None)
        # The whole's nll follows from its energy, and is calibrated on nothing of its own.
        if good is None or not figures.size:
            continue
        spread = np.maximum(good.std(axis=0), np.finfo(np.float64).tiny)
        allowed = spread + _FAR * np.abs(figures - good.mean(axis=0))
        found = float((np.abs(told.figures[name] - figures) / allowed).max())
        largest = max(largest, found if np.isfinite(found) else np.inf)
    return largest


def parity_pictures(detector: Detector) -> list[Picture]:
    """Return small pictures of good parts that a model keeps, as they are and spoilt in every way.

    A model that keeps none is tried on clouds.
    """
    references = detector.references_
    rule, small = detector.settings.reading, list[Picture]()
    if references is not None:
        kept = zip(references.hashes[:_PARITY_PARTS], references.thumbnails, strict=False)
        pixels = [Reference(sha256, thumbnail, 0.0).pixels for sha256, thumbnail in kept]
        small = [as_picture(each, rule) for each in pixels if each is not None]
    rng = np.random.default_rng(detector.settings.seed)
    if not small:
        small = golden_pictures(detector.settings.seed, rule)
    parts = [reduced(part, max(detector.settings.sizes)) for part in small]
    spoilt: list[Picture] = []
    for number, part in enumerate(parts[:_SPOILT]):
        spoilt += broken_parts(part, parts[(number + 1) % len(parts)], rng)
        spoilt += wrong_inputs(part, rng).values()
    return [*parts, *spoilt]


def _otherwise(parity: Parity, name: str, allowed: float) -> ExportError:
    return ExportError(
        expected=f"{name} to judge as the model does: every verdict the same, and figures to "
        f"{allowed:g} of their standard deviation over the calibration parts",
        found=f"{parity.deviation:.3g} of it, and {parity.flips} of {parity.pictures} verdicts others",
        remedy=_REMEDY,
    )


def _chosen(runtimes: Sequence[str]) -> list[str]:
    if unknown := [name for name in runtimes if name not in ENGINES]:
        raise RuntimeMissingError(
            expected=f"one of {', '.join(ENGINES)}", found=repr(unknown[0]), remedy="Choose one of them."
        )
    for name in runtimes:
        if not ENGINES[name].installed():
            raise ENGINES[name].missing()
    chosen = list(dict.fromkeys(runtimes)) or installed_runtimes()
    written = any(ENGINES[name].files for name in chosen)
    unwritten = written and not (find_spec("onnx") and find_spec("onnxscript"))
    if unwritten or not chosen:
        raise RuntimeMissingError(
            expected="the runtimes to export to, and what writes graphs for them",
            found=f"{'onnx' if unwritten else 'none of them'} not installed",
            remedy="Install them: pip install 'differnet[openvino]' or 'differnet[onnxruntime]'.",
        )
    return chosen


def onnx_graph(graph: nn.Module, sizes: Sequence[int]) -> bytes:
    """Return a graph as the bytes of an ONNX file.

    Args:
        graph: On the processor; takes one picture a zoom and returns a row of tensors.
        sizes: Sides of the network's inputs, pixels.

    Raises:
        ExportError: torch wrote none.
    """
    graph = graph.eval()
    inputs = tuple(torch.zeros(1, size, size, 3) for size in sizes)
    with _quietly(), torch.no_grad():
        try:
            program = torch.onnx.export(graph, inputs, dynamo=True, external_data=False, verbose=False)
        except Exception as error:  # it fails in many ways, with networks that nobody has tried
            raise _unwritten(next(iter(str(error).splitlines()), type(error).__name__)) from error
        if program is None:
            raise _unwritten("none")
        return bytes(program.model_proto.SerializeToString())


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep an exporter's words, which are for its makers, from the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _unwritten(found: str) -> ExportError:
    return ExportError(
        expected="a graph of the model",
        found=found,
        remedy="Inspect with torch, or choose a convolutional network.",
    )


def write_graph(engine: type[Engine], content: bytes, place: Path) -> None:
    """Write an ONNX graph in the form that a runtime reads, if it reads any, into a folder that is there."""
    if engine is OpenVino:
        write_openvino(content, place)
    elif engine is OnnxRuntime:
        (place / OnnxRuntime.files[0]).write_bytes(content)


def _milliseconds(inspectors: Mapping[str, Inspector], pictures: Sequence[Picture]) -> dict[str, float]:
    """Return what a middling picture takes each runtime, from pixels to evidence.

    They are asked in turn: on a machine that is busy for a second it is so for all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in inspectors}
    for picture in list(pictures[:_TIMED]) * _ROUNDS:
        for name, inspector in inspectors.items():
            time.sleep(_QUIET)
            started = time.perf_counter()
            inspector._evidence([picture])
            taken[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(each) for name, each in taken.items()}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
