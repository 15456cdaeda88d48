"""What a bundle's files say of themselves, read and checked without torch.

The manifest's form, its seal, and the headers of safetensors files. `differnet.detection.bundle` rebuilds a
detector from them; `differnet.detection.good_parts` reads the figures of the calibration alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from differnet.calibration import HEAT_NUMBERS
from differnet.detection.usual import CALIBRATION_ARRAYS, QUALITY_FIGURES
from differnet.records import MOST_REFERENCES, DiffernetError

MANIFEST = "manifest.json"
REFERENCES = "references.safetensors"
# Bundles of the form before have no good parts to show.
_OLDER_SCHEMA: Literal[7] = 7
_OLDER_FILES = ("backbone.safetensors", "densities.safetensors", "calibration.safetensors")
FILES = (*_OLDER_FILES, REFERENCES)
# A folder of graphs that stand for the densities, which have a seal of their own: `differnet.runtime`.
EXPORTED = "exported"
# Bytes of a sha256.
DIGEST = 32
# Pixels of the network's largest input that are ignored or kept together: the finest map's stride.
CELL = 8
# A manifest is a few kilobytes; a larger one is an attack or an accident.
_LARGEST_MANIFEST = 1 << 20
_LARGEST_HEADER = 1 << 22


class BundleError(DiffernetError):
    """A model bundle that is damaged, tampered with, or does not reproduce its own figures."""


class Strict(BaseModel):
    """Part of a manifest: no further fields, nothing that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Sealed = TypeVar("Sealed", bound=Strict)


class Scale(Strict):
    """Patches of one size."""

    name: str = Field(max_length=64)
    strides: list[int] = Field(min_length=1, max_length=8)
    window: int = Field(ge=1, le=31)
    zoom: int = Field(ge=0, le=3)


class Shape(Strict):
    """What a flow is rebuilt from."""

    features: int = Field(ge=1, le=100_000)
    context: int = Field(ge=0, le=1_000)
    rank: int | None = Field(ge=0, le=100_000)
    leading: int = Field(ge=1, le=100_000)
    couplings: int = Field(ge=0, le=64)
    hidden: int = Field(ge=1, le=4_096)


class Whole(Shape):
    """Of a global density, with the parts that it learned from."""

    parts: int = Field(ge=1)


class CompleteShape(Strict):
    """Of the member that has seen every part."""

    wholes: list[Whole] = Field(min_length=1, max_length=4)
    patches: list[Shape] = Field(min_length=1, max_length=8)


class CalibrationFacts(Strict):
    """The promised rates, and what they rest on."""

    alpha_review: float = Field(gt=0, lt=1)
    alpha_defect: float = Field(gt=0, lt=1)
    scheme: Literal["cross-fitted", "split", "variations"]
    # Different parts behind the rows where not every row is a part; older bundles have no such scheme.
    real_parts: int | None = Field(default=None, ge=1)


class Golden(Strict):
    """Figures that a loaded model has to reproduce."""

    seed: int = Field(ge=0)
    figures: dict[str, list[list[float]]]


class Input(Strict):
    """How pictures are prepared for the network."""

    sizes: list[int] = Field(min_length=1, max_length=4)
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[float] = Field(min_length=3, max_length=3)
    # Models of before do not say, and were all trained without.
    halving: bool = False


class Density(Strict):
    """How the densities were fitted."""

    noise: float = Field(ge=0)
    couplings: int = Field(ge=0, le=64)
    hidden: int = Field(ge=1, le=4_096)
    whole_couplings: int = Field(ge=0, le=64)
    # Models of before do not say, and were all trained so.
    redrawn: bool = True
    steps: int = Field(ge=0)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    context_noise: float = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _same_for_all(cls, fields: Any) -> Any:
        """Read models of before, whose densities all had as many couplings."""
        if isinstance(fields, dict) and "couplings" in fields:
            return {"whole_couplings": fields["couplings"], **fields}
        return fields


class Chosen(Strict):
    """What a person chose."""

    seed: int
    product: str
    folds: int
    image_size: int
    zooms: list[float] = Field(min_length=1, max_length=4)
    # Older bundles were never asked to keep any.
    references: int = Field(default=MOST_REFERENCES, ge=0, le=MOST_REFERENCES)
    # Older bundles all looked at these.
    strides: list[int] = Field(default=[8, 16, 32], min_length=1, max_length=8)


class Network(Strict):
    """The backbone, and where its weights are from."""

    name: str = Field(max_length=200)
    origin: str
    sha256: str
    licence: str


class Provenance(Strict):
    """What the model was made of."""

    backbone: Network
    training_parts: int
    suspects_left_out: int = Field(ge=0)
    # Older bundles were never of variations.
    variations: int = Field(default=0, ge=0)
    training_fingerprint: str
    trained_at: str
    versions: dict[str, str]


class _Entry(Strict):
    """What the header of a safetensors file says of a tensor."""

    dtype: str
    shape: list[int] = Field(max_length=8)
    data_offsets: list[int] = Field(min_length=2, max_length=2)


class Manifest(Strict):
    """Everything that ``manifest.json`` says, but its seal."""

    schema_version: Literal[7, 8]
    model_id: str
    preprocessing: Input
    reading: dict[str, Any]
    scales: list[Scale] = Field(min_length=1, max_length=8)
    density: Density
    members: list[list[Whole]] = Field(min_length=1, max_length=64)
    complete: CompleteShape
    calibration: CalibrationFacts
    settings: Chosen
    provenance: Provenance
    golden: Golden
    files: dict[str, str]

    @property
    def file_names(self) -> tuple[str, ...]:
        """The files beside the manifest."""
        return _OLDER_FILES if self.schema_version == _OLDER_SCHEMA else FILES


def sealed(fields: Mapping[str, Any]) -> bytes:
    """Return the one text that stands for these fields, with the sha256 of the text without it."""
    return _text({**fields, "seal": hashlib.sha256(_text(fields)).hexdigest()})


def _text(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def read_sealed(path: Path, kind: type[Sealed]) -> Sealed:
    """Read a file that `sealed` wrote.

    Args:
        path: Of a plain file.
        kind: What it says.

    Raises:
        BundleError: It is too large, was changed, or says anything else.
    """
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise wrong("a manifest of at most 1 MiB", f"{path.stat().st_size} bytes")
    written = path.read_bytes()
    try:
        fields = json.loads(written, object_pairs_hook=_unique, parse_constant=_no_constant)
        seal = fields.pop("seal")
        whole = sealed(fields)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise wrong("a manifest of strict JSON with its seal", first_line(error)) from error
    if whole != written:
        raise wrong("the manifest as it was written", f"a changed one, whose seal is {str(seal)[:64]}")
    try:
        return kind.model_validate(fields, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise wrong("a manifest that this version understands", f"{place}: {first['msg']}") from error


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle, and check its form, its seal and which files lie beside it.

    Raises:
        BundleError: There is none, or anything is not as it was written.
    """
    path = folder / MANIFEST
    if not folder.is_dir() or path.is_symlink() or not path.is_file():
        raise BundleError(
            expected=f"a model bundle at {folder}",
            found="no manifest.json there",
            remedy="Give the folder that differnet train wrote.",
        )
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in (MANIFEST, EXPORTED, *FILES))
    if strangers:
        raise wrong("the manifest and its files alone", f"also {', '.join(strangers[:5])}")
    manifest = read_sealed(path, Manifest)
    names = manifest.file_names
    if set(manifest.files) != set(names):
        raise wrong(f"the files {', '.join(names)}", ", ".join(sorted(manifest.files)) or "none")
    if REFERENCES not in names and os.path.lexists(folder / REFERENCES):
        raise wrong("the manifest and its files alone", f"also {REFERENCES}")
    return manifest


def calibration_tensors(
    manifest: Manifest, kinds: int, declared: Mapping[str, Declared]
) -> dict[str, Declared]:
    """Return what a calibration of as many parts as ``declared`` has consists of."""
    scales, zooms = len(manifest.scales), len(manifest.settings.zooms)
    parts = declared["whole"].shape[0] if "whole" in declared and declared["whole"].shape else 0
    shapes: dict[str, tuple[int, ...]] = {
        "whole": (parts, zooms),
        "kinds": (parts, kinds),
        "kernels": (zooms + 2 * scales, 2),
        "local": (parts, scales),
        "nll_local": (parts, scales),
        "extent": (parts, scales),
        "cells": (parts, 4 * scales),
        "origin": (6 * scales + zooms + 1,),
        "peaks": (parts,),
        "heat": (scales + zooms, HEAT_NUMBERS),
        "quality": (parts, len(QUALITY_FIGURES)),
    }
    tensors = {name: Declared("F64", shapes[name]) for name in CALIBRATION_ARRAYS}
    tensors["trained_on"] = Declared("U8", (manifest.provenance.training_parts, DIGEST))
    # A detector that ignores nothing has no mask.
    if "ignored" in declared:
        side = max(manifest.preprocessing.sizes) // CELL
        tensors["ignored"] = Declared("BOOL", (side, side))
    return tensors


class Declared(NamedTuple):
    """What a safetensors file declares of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"shape {self.shape}, {self.dtype}"


def declared_tensors(path: Path) -> dict[str, Declared]:
    """Read what a safetensors file declares, without its numbers, and check what its own reader does not.

    That reader accepts a name twice. Here the tensors have to fill the file too, so that a vast one is
    refused before it is hashed.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else _LARGEST_HEADER + 1
        if length > _LARGEST_HEADER:
            raise wrong(f"a header of at most {_LARGEST_HEADER} bytes in {path.name}", f"{length}")
        header = stream.read(length)
    try:
        fields = json.loads(header, object_pairs_hook=_unique, parse_constant=_no_constant)
        fields.pop("__metadata__", None)
        entries = {name: _Entry.model_validate(entry, strict=True) for name, entry in fields.items()}
    except (AttributeError, RecursionError, ValueError) as error:
        raise wrong(f"a sound safetensors file {path.name}", first_line(error)) from error
    ends = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if ends != size:
        raise wrong(f"{path.name} of {ends} bytes, as its header says", f"{size}")
    return {name: Declared(entry.dtype, tuple(entry.shape)) for name, entry in entries.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise wrong("every name once", f"a name that stands twice among {names[:5]}")
    return dict(pairs)


def first_line(error: Exception) -> str:
    """Return what an error says first; its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _no_constant(text: str) -> float:
    raise wrong("finite numbers", text)


def wrong(expected: str, found: str) -> BundleError:
    """Make the error of a bundle that is not as it was written."""
    return BundleError(
        expected=expected,
        found=found,
        remedy="The model is damaged or was changed; copy it again from its source, or train it again.",
    )
