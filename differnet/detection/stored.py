"""What a bundle stores of a calibration, read and checked without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from differnet.calibration import HeatScale
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.judging import Calibration
from differnet.detection.manifest import (
    FILES,
    Manifest,
    calibration_tensors,
    declared_tensors,
    wrong,
)
from differnet.detection.settings import DensitySettings, DetectorSettings, PatchScale
from differnet.detection.sources import fingerprint
from differnet.detection.usual import CALIBRATION_ARRAYS
from differnet.images.reading import ReadingRule

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class StoredCalibration:
    """The tensors of a calibration as they lie in a bundle.

    Attributes:
        arrays: By the names of `CALIBRATION_ARRAYS`.
        ignored: ``(side, side)`` bool, or ``None`` where nothing is.
        trained_on: ``(parts, 32)`` the bytes of a sha256 a training part.
    """

    arrays: dict[str, Figures]
    ignored: NDArray[np.bool_] | None
    trained_on: NDArray[np.uint8]


def read_stored(manifest: Manifest, folder: Path) -> StoredCalibration:
    """Read the tensors of a calibration, and check every file of its bundle by its sha256.

    Raises:
        BundleError: A file is missing, is another one, or holds other tensors than the manifest says.
        SafetensorError: A file is not sound.
    """
    for name in manifest.file_names:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise wrong(f"{name} in the bundle", "no such plain file")
    path = folder / FILES[2]
    declared = declared_tensors(path)
    kinds = declared["kinds"].shape[1] if "kinds" in declared and len(declared["kinds"].shape) == 2 else 0
    if declared != calibration_tensors(manifest, kinds, declared):
        raise wrong("the tensors of the calibration", "others, or of another shape")
    for name in manifest.file_names:
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != manifest.files[name]:
            raise wrong(f"{name} with sha256 {manifest.files[name]}", f"sha256 {found}")
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in declared}
    arrays = {name: tensors[name] for name in CALIBRATION_ARRAYS}
    if not all(np.isfinite(figures).all() for figures in arrays.values()):
        raise wrong("finite figures in the calibration", "some that are not")
    return StoredCalibration(arrays, tensors.get("ignored"), tensors["trained_on"])


def settings_of(manifest: Manifest, device: str) -> DetectorSettings:
    """Return the settings of the detector that a bundle holds.

    Raises:
        DetectorError: They are none.
        ScaleError: A scale of patches is none.
    """
    chosen, rates = manifest.settings, manifest.calibration
    return DetectorSettings(
        backbone=manifest.provenance.backbone.name,
        image_size=chosen.image_size,
        seed=chosen.seed,
        product=chosen.product,
        folds=chosen.folds,
        alpha_review=rates.alpha_review,
        alpha_defect=rates.alpha_defect,
        device=device,
        density=DensitySettings(**manifest.density.model_dump()),
        scales=tuple(PatchScale(s.name, tuple(s.strides), s.window, s.zoom) for s in manifest.scales),
        strides=tuple(chosen.strides),
        zooms=tuple(chosen.zooms),
        references=chosen.references,
        reading=ReadingRule.from_json(manifest.reading),
    )


def calibration_of(
    manifest: Manifest, arrays: Mapping[str, Figures], ignored: NDArray[np.bool_] | None
) -> Calibration:
    """Return the calibration that a bundle's figures are of.

    Raises:
        BundleError: They do not fit each other, or the manifest.
        DetectorError: The mask ignores too much.
        CalibrationError: A scale of heat is none.
    """
    for row in arrays["heat"]:
        HeatScale.from_row(row)
    if not (arrays["kernels"][:, 0] > 0).all() or not (arrays["kernels"][:, 1] >= 0).all():
        raise wrong("kernels of positive length and a signal of 0 or more", f"{arrays['kernels'].tolist()}")
    facts, parts = manifest.calibration, len(arrays["whole"])
    if (facts.scheme == "variations") != (facts.real_parts is not None) or (facts.real_parts or 0) > parts:
        raise wrong("a count of parts with the scheme variations, and only there", f"{facts.real_parts}")
    return Calibration(
        **arrays,
        alpha_review=facts.alpha_review,
        alpha_defect=facts.alpha_defect,
        scheme=facts.scheme,
        ignored=None if ignored is None else IgnoreMask(ignored),
        real_parts=facts.real_parts,
    )


def trained_hashes(manifest: Manifest, rows: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return which parts were trained on: those of the manifest's fingerprint, or the bundle is refused.

    Raises:
        BundleError: They are others.
    """
    hashes = tuple(row.tobytes().hex() for row in rows)
    if fingerprint(hashes) != manifest.provenance.training_fingerprint:
        raise wrong("the training parts of the manifest's fingerprint", "others")
    return hashes
