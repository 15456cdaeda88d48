"""The model bundle: one folder that holds a detector, and nothing that can run.

``manifest.json`` (strict) names every other file with its sha256; tensors lie in safetensors. The
folder is written beside its target and renamed into place. Loading checks names, hashes, shapes, types and
finiteness, rebuilds the densities from a closed list of shapes, and then inspects golden pictures:
a model that does not reproduce their figures is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from differnet.detection.densities import (
    DensitySettings,
    FlowShape,
    PartDensity,
    PatchDensity,
    rebuild_flow,
)
from differnet.detection.detector import Calibration, Detector, DetectorSettings, Member
from differnet.detection.statistics import PatchScale
from differnet.features import Backbone, Preprocessing, Weights
from differnet.images.reading import ReadingRule
from differnet.records import DiffernetError

SCHEMA: Literal[1] = 1
_MANIFEST = "manifest.json"
_FILES = ("backbone.safetensors", "densities.safetensors", "calibration.safetensors")
# A manifest is a few kilobytes; a larger one is an attack or an accident.
_LARGEST_MANIFEST = 1 << 20
_LARGEST_HEADER = 1 << 22
_GOLDEN_PICTURES = 3
# float32 sums in another order, on another processor, move an nll of some hundred nats by about
# 1e-5 of its size.
_GOLDEN_TOLERANCE = 1e-3


class BundleError(DiffernetError):
    """A model bundle that is damaged, tampered with, or does not reproduce its own figures."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Scale(_Strict):
    name: str = Field(max_length=64)
    stride: int = Field(ge=1, le=256)
    window: int = Field(ge=1, le=31)


class _Shape(_Strict):
    features: int = Field(ge=1, le=100_000)
    context: int = Field(ge=0, le=1_000)
    rank: int | None = Field(ge=0, le=100_000)
    leading: int = Field(ge=1, le=100_000)
    couplings: int = Field(ge=0, le=64)
    hidden: int = Field(ge=1, le=4_096)


class _MemberShape(_Strict):
    part: _Shape
    patches: list[_Shape] = Field(min_length=1, max_length=8)


class _CalibrationFacts(_Strict):
    alpha_review: float = Field(gt=0, lt=1)
    alpha_defect: float = Field(gt=0, lt=1)
    scheme: Literal["cross-fitted", "split"]


class _Golden(_Strict):
    seed: int
    whole: list[float]
    local: list[list[float]]


class _Manifest(_Strict):
    schema_version: Literal[1]
    model_id: str
    backbone: str = Field(max_length=200)
    weights: dict[str, str]
    preprocessing: dict[str, Any]
    reading: dict[str, Any]
    scales: list[_Scale] = Field(min_length=1, max_length=8)
    density: dict[str, float]
    members: list[_MemberShape] = Field(min_length=1, max_length=64)
    calibration: _CalibrationFacts
    settings: dict[str, Any]
    provenance: dict[str, Any]
    golden: _Golden
    files: dict[str, str]


def save_bundle(detector: Detector, folder: Path) -> Path:
    """Write a calibrated detector to ``folder``, replacing an older bundle there.

    Raises:
        BundleError: ``folder`` holds something that is not a bundle.
    """
    detector.facts()  # raises, with its reason, unless the detector is complete
    if folder.exists() and any(folder.iterdir()) and not (folder / _MANIFEST).is_file():
        raise BundleError(
            expected="an empty folder, or an older model",
            found=f"other files in {folder}",
            remedy="Choose another folder; nothing there was touched.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(detector, staging)
        # mkdtemp makes private folders; a model is as readable as any file of its owner's.
        staging.chmod(0o755)
        if folder.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(retired / "model")
            staging.rename(folder)
            shutil.rmtree(retired)
        else:
            staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


def load_bundle(folder: Path, device: str = "auto") -> Detector:
    """Read a bundle back, check it, and let it prove itself on its golden pictures.

    Raises:
        BundleError: Anything at all is not as the manifest says.
    """
    manifest = _read_manifest(folder)
    for name in _FILES:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise _wrong(f"{name} in the bundle", "no such plain file")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != manifest.files.get(name):
            raise _wrong(f"{name} with sha256 {manifest.files.get(name)}", f"sha256 {found}")
    try:
        detector = _rebuild(manifest, folder, device)
    except BundleError:
        raise
    except (DiffernetError, KeyError, TypeError, ValueError) as error:
        raise _wrong("a manifest whose parts fit each other", str(error)) from error
    if detector.model_id != manifest.model_id:
        raise _wrong(f"model {manifest.model_id}", f"model {detector.model_id}")
    _self_test(detector, manifest.golden)
    return detector


def _write(detector: Detector, folder: Path) -> None:
    settings, calibration = detector.settings, detector.calibration_
    backbone, preprocessing = detector.backbone_, detector.preprocessing_
    if calibration is None or backbone is None or preprocessing is None:
        raise BundleError(
            expected="a fitted and calibrated detector",
            found="an incomplete one",
            remedy="Fit and calibrate.",
        )
    save_file(_plain(backbone.network), folder / _FILES[0])
    densities: dict[str, Tensor] = {}
    for i, member in enumerate(detector.members_):
        for name, density in _named(member):
            densities |= {f"{i}.{name}.{k}": v for k, v in _plain(density).items()}
    save_file(densities, folder / _FILES[1])
    save_file({k: torch.from_numpy(v.copy()) for k, v in _arrays(calibration).items()}, folder / _FILES[2])
    golden_seed = settings.seed
    whole, local = _golden_figures(detector, golden_seed)
    manifest = _Manifest(
        schema_version=SCHEMA,
        model_id=detector.model_id,
        backbone=settings.backbone,
        weights={k: str(v) for k, v in detector.provenance_["backbone"].items()},
        preprocessing=preprocessing.to_json(),
        reading=dict(settings.reading.to_json()),
        scales=[_Scale(name=s.name, stride=s.stride, window=s.window) for s in settings.scales],
        density={k: float(v) for k, v in vars(settings.density).items()},
        members=[
            _MemberShape(
                part=_Shape(**m.part.shape._asdict()),
                patches=[_Shape(**p.shape._asdict()) for p in m.patches],
            )
            for m in detector.members_
        ],
        calibration=_CalibrationFacts(
            alpha_review=calibration.alpha_review,
            alpha_defect=calibration.alpha_defect,
            scheme="split" if calibration.scheme == "split" else "cross-fitted",
        ),
        settings={"seed": settings.seed, "product": settings.product, "folds": settings.folds},
        provenance=detector.provenance_,
        golden=_Golden(seed=golden_seed, whole=whole.tolist(), local=local.tolist()),
        files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES},
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / _MANIFEST
    if not folder.is_dir() or path.is_symlink() or not path.is_file():
        raise BundleError(
            expected=f"a model bundle at {folder}",
            found="no manifest.json there",
            remedy="Give the folder that differnet train wrote.",
        )
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise _wrong("a manifest of at most 1 MiB", f"{path.stat().st_size} bytes")
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in (_MANIFEST, *_FILES))
    if strangers:
        raise _wrong("the manifest and its files alone", f"also {', '.join(strangers[:5])}")
    try:
        fields = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        manifest = _Manifest.model_validate(fields, strict=True)
    except (UnicodeDecodeError, json.JSONDecodeError, ValidationError, RecursionError) as error:
        raise _wrong("a manifest that this version understands", str(error).splitlines()[0]) from error
    if set(manifest.files) != set(_FILES):
        raise _wrong(f"the files {', '.join(_FILES)}", ", ".join(sorted(manifest.files)) or "none")
    return manifest


def _rebuild(manifest: _Manifest, folder: Path, device: str) -> Detector:
    preprocessing = Preprocessing.from_json(manifest.preprocessing)
    whole_numbers = {"couplings", "hidden", "steps", "batch"}
    density = DensitySettings(
        **{k: int(v) if k in whole_numbers else v for k, v in manifest.density.items()}  # type: ignore[arg-type]
    )
    settings = DetectorSettings(
        backbone=manifest.backbone,
        image_size=preprocessing.size,
        seed=int(manifest.settings["seed"]),
        product=str(manifest.settings["product"]),
        folds=int(manifest.settings["folds"]),
        alpha_review=manifest.calibration.alpha_review,
        alpha_defect=manifest.calibration.alpha_defect,
        device=device,
        density=density,
        scales=tuple(PatchScale(s.name, s.stride, s.window) for s in manifest.scales),
        reading=ReadingRule.from_json(manifest.reading),
    )
    detector = Detector(settings)
    state = _read_tensors(folder / _FILES[0])
    origin = f"bundle {folder.name}"
    weights = Weights(
        state,
        origin,
        manifest.weights["sha256"],
        manifest.weights["licence"],
        preprocessing.mean,
        preprocessing.std,
    )
    backbone = Backbone(manifest.backbone, weights)
    unused = sorted(set(state) - set(backbone.network.state_dict()))
    if unused:
        raise _wrong("the backbone's tensors alone", f"also {unused[0]}")
    detector.backbone_ = backbone.to(detector._device)
    detector.preprocessing_ = preprocessing
    detector.members_ = _rebuild_members(manifest, _read_tensors(folder / _FILES[1]))
    detector.calibration_ = _rebuild_calibration(manifest, _read_tensors(folder / _FILES[2]))
    detector.provenance_ = manifest.provenance
    return detector


def _rebuild_members(manifest: _Manifest, tensors: Mapping[str, Tensor]) -> list[Member]:
    members: list[Member] = []
    used: set[str] = set()
    for i, shapes in enumerate(manifest.members):
        part_shape = FlowShape(**shapes.part.model_dump())
        part = PartDensity(rebuild_flow(part_shape), part_shape)
        patches = [FlowShape(**s.model_dump()) for s in shapes.patches]
        member = Member(part, tuple(PatchDensity(rebuild_flow(s), s) for s in patches))
        if len(patches) != len(manifest.scales):
            raise _wrong(f"{len(manifest.scales)} local densities", f"{len(patches)} in member {i}")
        for name, density in _named(member):
            prefix = f"{i}.{name}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            own = density.state_dict()
            if set(state) != set(own) or any(state[k].shape != own[k].shape for k in own):
                raise _wrong(f"the tensors of {prefix[:-1]}", "other names or shapes")
            density.load_state_dict(state, strict=True)
            density.eval()
            used |= {prefix + k for k in own}
        members.append(member)
    if used != set(tensors):
        raise _wrong("the members' tensors alone", f"also {min(set(tensors) - used)}")
    return members


def _rebuild_calibration(manifest: _Manifest, tensors: Mapping[str, Tensor]) -> Calibration:
    names = ("whole", "local", "extent", "peaks", "map_mean", "map_spread")
    if set(tensors) != set(names):
        raise _wrong(f"the arrays {', '.join(names)}", ", ".join(sorted(tensors)))
    arrays = {name: tensors[name].double().numpy() for name in names}
    parts, scales = len(arrays["whole"]), len(manifest.scales)
    shapes = {
        "whole": (parts,),
        "local": (parts, scales),
        "extent": (parts, scales),
        "peaks": (parts,),
        "map_mean": (scales,),
        "map_spread": (scales,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise _wrong(f"{name} of shape {shape}", f"shape {arrays[name].shape}")
    facts = manifest.calibration
    return Calibration(
        **arrays, alpha_review=facts.alpha_review, alpha_defect=facts.alpha_defect, scheme=facts.scheme
    )


def _self_test(detector: Detector, golden: _Golden) -> None:
    whole, local = _golden_figures(detector, golden.seed)
    for name, found, expected in (
        ("the whole", whole, np.asarray(golden.whole)),
        ("the patches", local, np.asarray(golden.local)),
    ):
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=_GOLDEN_TOLERANCE, atol=_GOLDEN_TOLERANCE
        ):
            difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
            raise _wrong(
                f"the golden pictures' figures of {name} to {_GOLDEN_TOLERANCE:g}",
                f"a difference of {difference:.3g} nats",
            )


def _golden_figures(detector: Detector, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return raw evidence of three pictures made from the seed alone: clouds, not anybody's parts."""
    from differnet.detection.detector import _as_picture, _evidence

    generator = np.random.default_rng(seed)
    pictures = []
    for _ in range(_GOLDEN_PICTURES):
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels = np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)
        pictures.append(_as_picture(pixels, detector.settings.reading))
    evidence = _evidence(detector.members_, detector._features(pictures))
    return evidence.whole, evidence.local


def _named(member: Member) -> list[tuple[str, nn.Module]]:
    return [("part", member.part), *((f"patches{i}", p) for i, p in enumerate(member.patches))]


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def _arrays(calibration: Calibration) -> dict[str, NDArray[np.float64]]:
    return {
        "whole": calibration.whole,
        "local": calibration.local,
        "extent": calibration.extent,
        "peaks": calibration.peaks,
        "map_mean": calibration.map_mean,
        "map_spread": calibration.map_spread,
    }


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file after checking what its own reader does not: the header's names, and values."""
    with path.open("rb") as stream:
        head = stream.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else _LARGEST_HEADER + 1
        if size > _LARGEST_HEADER:
            raise _wrong(f"a header of at most {_LARGEST_HEADER} bytes in {path.name}", f"{size}")
        header = stream.read(size)
    try:
        json.loads(header, object_pairs_hook=_unique, parse_constant=_no_constant)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _wrong(f"a sound safetensors file {path.name}", str(error).splitlines()[0]) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _wrong(f"finite values in {name}", "some that are not")
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise _wrong("every name once", f"a name that stands twice among {names[:5]}")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise _wrong("finite numbers", text)


def _wrong(expected: str, found: str) -> BundleError:
    return BundleError(
        expected=expected,
        found=found,
        remedy="The model is damaged or was changed; copy it again from its source, or train it again.",
    )
