"""A model that an exported graph stands for: it inspects, on a processor without torch."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open

from differnet.detection.evidence import RawEvidence
from differnet.detection.golden import check_golden, golden_pictures
from differnet.detection.inspector import Inspector, Looked
from differnet.detection.judging import Calibration
from differnet.detection.manifest import (
    EXPORTED,
    BundleError,
    Manifest,
    Strict,
    declared_tensors,
    first_line,
    read_manifest,
    read_sealed,
    wrong,
)
from differnet.detection.sources import BATCH, Batch, Source, decoded
from differnet.detection.stored import calibration_of, read_stored, settings_of, trained_hashes
from differnet.features.preprocessing import Preprocessing
from differnet.images.reading import ImageError
from differnet.records import DiffernetError, Picture
from differnet.runtime.engines import (
    ENGINES,
    Cuda,
    Engine,
    Inputs,
    Outputs,
    Precision,
    RuntimeMissingError,
    leave_processors_alone,
)
from differnet.runtime.evidence import Grid, evidence_of
from differnet.runtime.wholes import FoldedWhole

EXPORT, WHOLES = "export.json", "wholes.safetensors"
FORM: Literal[2] = 2
"""Of exports that are run; those of the first took planes."""
TORCH = "torch"
RUNTIMES = ("auto", TORCH, *ENGINES)

# Pictures that are judged at once: the global densities are the same few megabytes for all of them.
_TOGETHER = 8
# Pictures of an iterator that are decoded together.
_AHEAD = 4
_UNFIT = (ArithmeticError, LookupError, OSError, TypeError, ValueError)


class Parity(Strict):
    """How a graph compares with the model it stands for.

    Attributes:
        pictures: That both judged.
        deviation: Largest difference of any figure, in its standard deviations over the calibration parts.
        flips: Verdicts that differ.
    """

    pictures: int = Field(ge=1)
    deviation: float = Field(ge=0)
    flips: int = Field(ge=0)


class Export(Strict):
    """What ``export.json`` says of a graph.

    Attributes:
        form: Of this file and the graph, see `FORM`.
        model_id: Of the densities that the graph stands for.
        runtime: That runs it.
        precision: In which the network computes; all else is float32.
        strides: Of the network's maps, picture pixels, fine to coarse.
        channels: Of each.
        files: sha256 of each by its name.
        parity: With the model.
        milliseconds: A picture took here when it was exported, by the runtime; torch among them.
        versions: Of what made it.
    """

    form: Literal[1, 2] = FORM
    model_id: str = Field(max_length=64)
    runtime: str = Field(max_length=64)
    precision: Precision = "float32"
    strides: list[int] = Field(min_length=1, max_length=8)
    channels: list[int] = Field(min_length=1, max_length=8)
    files: dict[str, str]
    parity: Parity
    milliseconds: dict[str, float]
    versions: dict[str, str]


def exports_in(folder: Path) -> dict[str, Export]:
    """Return what the model in a folder was exported to, by the runtime.

    Exports of an earlier form do not count: until the model is exported again, torch inspects.

    Raises:
        BundleError: An export is not as it was written.
    """
    place = folder / EXPORTED
    if not os.path.lexists(place):
        return {}
    if place.is_symlink() or not place.is_dir():
        raise wrong(f"a folder {EXPORTED}", "something else of that name")
    found = sorted(path.name for path in place.iterdir())
    if strangers := [name for name in found if name not in ENGINES]:
        raise wrong(f"exports to {', '.join(ENGINES)} alone", f"also {', '.join(strangers[:5])}")
    exports = {name: _read_export(place / name, name) for name in found}
    return {name: export for name, export in exports.items() if export.form == FORM}


def outdated_exports(folder: Path) -> list[str]:
    """Return the runtimes to which an earlier version exported the model in a folder, in a form that is past.

    Raises:
        BundleError: An export is not as it was written.
    """
    place = folder / EXPORTED
    there = [name for name in ENGINES if (place / name).is_dir() and not place.is_symlink()]
    return [name for name in there if _read_export(place / name, name).form != FORM]


def _read_export(folder: Path, name: str) -> Export:
    wanted = (EXPORT, WHOLES, *ENGINES[name].files)
    for path in (folder / each for each in wanted):
        if folder.is_symlink() or path.is_symlink() or not path.is_file():
            raise wrong(f"{path.name} in the export to {name}", "no such plain file")
    if strangers := sorted({path.name for path in folder.iterdir()} - set(wanted)):
        raise wrong(f"{', '.join(wanted)} alone", f"also {', '.join(strangers[:5])}")
    export = read_sealed(folder / EXPORT, Export)
    if export.runtime != name or set(export.files) != set(wanted) - {EXPORT}:
        raise wrong(f"an export to {name} of {', '.join(wanted[1:])}", f"one to {export.runtime}")
    return export


def choose_runtime(folder: Path, asked: str = "auto", without: Sequence[str] = ()) -> str:
    """Return which runtime a model is to be run by.

    Args:
        folder: Of the model.
        without: Runtimes that ``auto`` does not take.
        asked: One of `RUNTIMES`; ``auto`` takes the one that was fastest when the model was exported, of
            those that are installed here, and torch where there is none.

    Raises:
        RuntimeMissingError: The one that was asked for is not installed, or the model was not exported to it.
        BundleError: An export is not as it was written.
    """
    if asked not in RUNTIMES:
        raise RuntimeMissingError(
            expected=f"one of {', '.join(RUNTIMES)}", found=repr(asked), remedy="Choose one of them."
        )
    if asked == TORCH:
        return TORCH
    exports = exports_in(folder)
    if asked != "auto":
        if asked not in exports:
            raise RuntimeMissingError(
                expected=f"a model that was exported to {asked}",
                found=f"exports to {', '.join(exports) or 'nothing'} in {folder}{_and_past(folder)}",
                remedy=f"Export it: differnet export {folder} --runtime {asked}.",
            )
        return asked
    there = {name: export for name, export in exports.items() if name not in without}
    usable = {name: export for name, export in there.items() if ENGINES[name].installed()}
    taken = {name: export.milliseconds.get(name, np.inf) for name, export in usable.items()}
    fastest = min(taken, key=lambda name: taken[name], default=TORCH)
    own = min((export.milliseconds.get(TORCH, np.inf) for export in usable.values()), default=0.0)
    return fastest if fastest != TORCH and taken[fastest] <= own else TORCH


def _and_past(folder: Path) -> str:
    names = outdated_exports(folder)
    return f", and to {', '.join(names)} by an earlier version" if names else ""


def load_fastest(folder: Path, device: str = "auto", runtime: str = "auto") -> Inspector:
    """Read a model to inspect with: its export to a runtime, or the model itself.

    Args:
        folder: Of the model.
        device: Where torch judges; any but ``auto`` asks for torch.
        runtime: See `choose_runtime`.

    Raises:
        RuntimeMissingError: The runtime is not installed, or the model was not exported to it.
        BundleError: The model or its export is not as it was written.
    """
    name = TORCH if device != "auto" else choose_runtime(folder, runtime)
    if name == Cuda.name and runtime == "auto":
        # Somebody else may have taken all of its memory.
        with contextlib.suppress(RuntimeMissingError):
            return ExportedDetector.load(folder, name)
        name = choose_runtime(folder, without=[name])
    if name != TORCH:
        return ExportedDetector.load(folder, name)
    # A model that was exported to a processor needs no torch.
    from differnet.detection import Detector

    return Detector.load(folder, device)


class ExportedDetector(Inspector):
    """A model whose evidence a graph computes.

    Its figures are those of `differnet.Detector` to the parity that its export was allowed. It cannot be
    fitted, calibrated or explained: that takes the densities.

    Args:
        manifest: Of the model.
        export: Of the graph.
        engine: That runs it.
        calibration: What good parts showed.
        wholes: The arrays of the global densities by their names, ``0.`` before those of the first zoom.
        trained_on: sha256 of the training parts.

    Raises:
        CalibrationError: The calibration cannot keep its promise.

    Example:
        ``ExportedDetector.load(Path("model"), "openvino").inspect("part.png").record.verdict``
    """

    def __init__(
        self,
        manifest: Manifest,
        export: Export,
        engine: Engine,
        calibration: Calibration,
        wholes: Mapping[str, NDArray[Any]],
        trained_on: Sequence[str] = (),
    ) -> None:
        given = manifest.preprocessing
        mean, std = ((a, b, c) for a, b, c in (given.mean, given.std))
        super().__init__(settings_of(manifest, "cpu"))
        self._trained_on = tuple(trained_on)
        self.engine, self.export = engine, export
        self.preprocessing_ = tuple(Preprocessing(size, mean, std, given.halving) for size in given.sizes)
        self.provenance_ = manifest.provenance.model_dump()
        self._manifest = manifest
        self._kinds = calibration.kinds.shape[1]
        self.ignored_ = calibration.ignored
        self._grids = tuple(self._lay_grids())
        self._wholes = tuple(self._fold(wholes, zoom) for zoom in range(len(given.sizes)))
        self._adopt(calibration)

    @classmethod
    def load(cls, folder: Path, runtime: str = "auto") -> ExportedDetector:
        """Read an exported model, check it, and let it prove itself on the model's golden pictures.

        Args:
            folder: Of the model.
            runtime: That runs it; ``auto`` for the fastest, see `choose_runtime`.

        Raises:
            RuntimeMissingError: The runtime is not installed, or the model was not exported to it.
            BundleError: Anything at all is not as it was written, or the graph gives other figures.
        """
        leave_processors_alone()
        name = choose_runtime(folder, runtime)
        if name == TORCH:
            raise RuntimeMissingError(
                expected="an export to a runtime that is installed here",
                found=f"none in {folder}",
                remedy=f"Export it: differnet export {folder}.",
            )
        manifest = read_manifest(folder)
        try:
            return cls._read(folder, manifest, name)
        except (BundleError, RuntimeMissingError):
            raise
        except (DiffernetError, SafetensorError, *_UNFIT) as error:
            raise wrong("an export whose parts fit each other", first_line(error)) from error

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, runtime: str) -> ExportedDetector:
        export, place = exports_in(folder)[runtime], folder / EXPORTED / runtime
        if export.model_id != manifest.model_id:
            raise wrong(f"an export of model {manifest.model_id}", f"one of model {export.model_id}")
        for name, digest in export.files.items():
            with (place / name).open("rb") as stream:
                if (found := hashlib.file_digest(stream, "sha256").hexdigest()) != digest:
                    raise wrong(f"{name} with sha256 {digest}", f"sha256 {found}")
        stored = read_stored(manifest, folder)
        calibration = calibration_of(manifest, stored.arrays, stored.ignored)
        declared_tensors(place / WHOLES)
        with safe_open(place / WHOLES, framework="numpy") as file:
            wholes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not all(np.isfinite(array).all() for array in wholes.values()):
            raise wrong("finite figures of the wholes", "some that are not")
        learned = trained_hashes(manifest, stored.trained_on)
        engine = ENGINES[runtime].opened(place, export.precision)
        detector = cls(manifest, export, engine, calibration, wholes, learned)
        detector.prove()
        return detector

    @property
    def model_id(self) -> str:
        """Sixteen digits that name the densities."""
        return self._manifest.model_id

    @property
    def device(self) -> str:
        """Where evidence is computed, as records say it, and in which precision where it is not full."""
        exact = self.export.precision == "float32"
        return self.engine.name if exact else f"{self.engine.name} {self.export.precision}"

    def _widths(self) -> tuple[int, ...]:
        complete = self._manifest.complete
        return complete.wholes[0].features, *(p.features for p in complete.patches)

    def _couplings_kept(self) -> dict[str, int]:
        wholes = [whole for member in self._manifest.members for whole in member]
        local = zip(self._manifest.scales, self._manifest.complete.patches, strict=True)
        kept = {"whole": sum(w.couplings > 0 for w in wholes), "of": len(wholes)}
        return kept | {scale.name: int(patches.couplings > 0) for scale, patches in local}

    def _kept_share(self, side: int) -> NDArray[np.float32]:
        if self.ignored_ is None:
            return np.ones((side, side), dtype=np.float32)
        return self.ignored_.kept_share(side, side)

    def _lay_grids(self) -> Iterator[Grid]:
        strides = self.export.strides
        for scale, shape in zip(self.settings.scales, self._manifest.complete.patches, strict=True):
            nearest = min(strides, key=lambda stride: abs(math.log2(stride / scale.strides[0])))
            side = self.settings.sizes[scale.zoom] // nearest
            kept = np.ones((side, side), bool) if self.ignored_ is None else self.ignored_.kept(side, side)
            yield Grid.of(kept, shape.features)

    def _fold(self, wholes: Mapping[str, NDArray[Any]], zoom: int) -> FoldedWhole:
        prefix, size = f"{zoom}.", self.settings.sizes[zoom]
        arrays = {k.removeprefix(prefix): v for k, v in wholes.items() if k.startswith(prefix)}
        counts = [self._kept_share(size // stride) for stride in self.export.strides]
        return FoldedWhole(arrays, counts, self.export.channels)

    def _inputs(self, picture: Picture) -> Inputs:
        pixels = self._seen(picture)
        return [preprocessing.cells(pixels)[None] for preprocessing in self.preprocessing_]

    def _raw(self, some: Sequence[Outputs]) -> RawEvidence:
        """Return evidence of pictures that the graph saw one by one."""
        return evidence_of(some, self._wholes, self._grids, self._kinds)

    def _evidence(self, pictures: list[Picture]) -> RawEvidence:
        if len(pictures) == 1:
            return self._raw([self.engine.run(self._inputs(pictures[0]))])
        return self._raw([outputs for _, outputs in self.engine.stream(pictures, self._inputs)])

    def _looked(self, pictures: Iterable[Source]) -> Iterator[Looked]:
        """Decode pictures ahead, and look at some while those before them are judged."""
        if isinstance(pictures, Sequence) and len(pictures) == 1:
            yield from super()._looked(pictures)
            return
        waiting: deque[tuple[Source, Picture | ImageError]] = deque()

        def sound() -> Iterator[tuple[Source, Picture]]:
            # What is drawn of an iterator is held by somebody: not far ahead.
            ahead = BATCH if isinstance(pictures, Sequence) else _AHEAD
            for batch in decoded(pictures, self.settings.reading, ahead):
                for source, picture in batch:
                    waiting.append((source, picture))
                    if isinstance(picture, Picture):
                        yield source, picture

        started = time.perf_counter()
        batch: Batch = []
        found: list[Outputs] = []
        for (_, picture), outputs in self.engine.stream(sound(), lambda given: self._inputs(given[1])):
            while waiting[0][1] is not picture:
                batch.append(waiting.popleft())
            batch.append(waiting.popleft())
            found.append(outputs)
            if len(found) == _TOGETHER:
                evidence, now = self._raw(found), time.perf_counter()
                yield Looked(batch, evidence, 1000 * (now - started) / len(found))
                batch, found, started = [], [], time.perf_counter()
        if batch or waiting:
            rest = self._raw(found) if found else None
            taken = 1000 * (time.perf_counter() - started) / max(1, len(found))
            yield Looked([*batch, *waiting], rest, taken)

    def prove(self) -> None:
        """Raise unless the graph reproduces the figures that the model gave for its golden pictures."""
        golden = self._manifest.golden
        pictures = golden_pictures(golden.seed, self.settings.reading)
        check_golden(self._evidence(pictures), golden.figures, half=self.export.precision == "float16")
