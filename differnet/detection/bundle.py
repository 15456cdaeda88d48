"""The model bundle: one folder that holds a detector, and nothing that can run.

``manifest.json`` (strict) names every other file with its sha256 and carries one of itself; tensors lie
in safetensors. The folder is written beside its target and renamed into place. Loading checks names,
shapes, types, hashes and finiteness, rebuilds the densities from a closed list of shapes, and then
inspects golden pictures: a model that does not reproduce their figures is refused.

Schema 8 keeps small pictures of some good parts as well. A model of schema 7 loads without them.

The hashes tell of accidents, not of forgery: whoever rewrites a bundle with all its hashes gets a
bundle of another ``model_id`` or ``calibration_id``, which stand on every record.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from differnet.detection.densities import (
    FlowShape,
    PartDensity,
    PatchDensity,
    rebuild_flow,
)
from differnet.detection.detector import Detector
from differnet.detection.ensemble import Ensemble, Member
from differnet.detection.evidence import RawEvidence
from differnet.detection.golden import check_golden, golden_figures, golden_pictures
from differnet.detection.manifest import (
    DIGEST,
    EXPORTED,
    FILES,
    MANIFEST,
    REFERENCES,
    BundleError,
    CalibrationFacts,
    Chosen,
    CompleteShape,
    Declared,
    Density,
    Golden,
    Input,
    Manifest,
    Provenance,
    Scale,
    Shape,
    Whole,
    calibration_tensors,
    declared_tensors,
    first_line,
    read_manifest,
    sealed,
    wrong,
)
from differnet.detection.references import References, most_bytes
from differnet.detection.stored import calibration_of, settings_of, trained_hashes
from differnet.durable import whole_folder
from differnet.features import (
    Backbone,
    Preprocessing,
    Weights,
    choose_device,
    network_tensors,
    sha256_of,
)
from differnet.flows import Flow, HealthReport, UnhealthyFlow, audit
from differnet.flows.health import FAR, FAR_LIMIT, LARGEST_LIMIT, MEDIAN_LIMIT
from differnet.records import MOST_REFERENCES, DiffernetError

Told = Callable[[str, str], None]

LOADING_CHECKS = ("manifest", "files", "densities", "golden pictures", "round trip")
"""What a bundle has to pass, in this order."""

SCHEMA: Literal[8] = 8
_HEALTH_SAMPLES = 64
# As safetensors spells the types that a network or a density may have.
_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# What rebuilding and running a model raises where its tensors do not belong together.
_UNFIT = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def save_bundle(detector: Detector, folder: Path) -> Path:
    """Write a calibrated detector to ``folder``, replacing an older bundle there.

    Raises:
        BundleError: ``folder`` holds something that is not a bundle, or the disk refused.
        DetectorError: The detector is not fitted and calibrated.
    """
    detector.facts()  # raises, with its reason, unless the detector is complete
    try:
        _refuse_foreign(folder)
        exported = folder / EXPORTED
        kept = exported.is_dir() and not exported.is_symlink() and _is_of(folder, detector.model_id)
        with whole_folder(folder) as building:
            _write(detector, building)
            # Graphs stand for the densities: a new calibration of the same ones leaves them as they were.
            if kept:
                shutil.copytree(exported, building / EXPORTED, symlinks=True)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            expected=f"to write a model to {folder}",
            found=first_line(error),
            remedy="Check free space and permissions; a model that was there is still whole.",
        ) from error
    return folder


def _is_of(folder: Path, model_id: str) -> bool:
    """Whether a bundle is there, sound as far as its manifest tells, whose densities are these."""
    try:
        return read_manifest(folder).model_id == model_id
    except BundleError:
        return False


def _refuse_foreign(folder: Path) -> None:
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and not folder.is_dir():
        found = [folder.name]
    # A manifest.json alone may be anybody's.
    if found and (set(found) - {MANIFEST, EXPORTED, *FILES} or found in ([MANIFEST], [EXPORTED])):
        raise BundleError(
            expected="an empty folder, or an older model",
            found=f"other files at {folder}, such as {min(set(found) - set(FILES))}",
            remedy="Choose another folder; nothing there was touched.",
        )


def load_bundle(folder: Path, device: str = "auto", told: Told | None = None) -> Detector:
    """Read a bundle back, check it, and let it prove itself on its golden pictures.

    Args:
        folder: Of the bundle.
        device: Where it is to judge.
        told: Called with each of `LOADING_CHECKS` that is passed, and what was found.

    Raises:
        BundleError: Anything at all is not as the manifest says.
        BackboneError: The device is not there.
    """
    say = told or (lambda check, words: None)
    choose_device(device)
    manifest = read_manifest(folder)
    say("manifest", f"form {manifest.schema_version}, strict, and sealed as it was written")
    try:
        ensemble = _check_files(manifest, folder)
        say("files", f"{len(manifest.files)} files, names, shapes and every sha256 as the manifest says")
        detector = _rebuild(manifest, folder, device, ensemble)
        if detector.model_id != manifest.model_id:
            raise wrong(f"model {manifest.model_id}", f"model {detector.model_id}")
        say("densities", f"rebuilt, all figures finite, model {manifest.model_id}")
        _self_test(detector, manifest.golden, say)
    except BundleError:
        raise
    except (DiffernetError, *_UNFIT) as error:
        raise wrong("a manifest whose parts fit each other", first_line(error)) from error
    return detector


def _write(detector: Detector, folder: Path) -> None:
    settings, calibration = detector.settings, detector.calibration_
    backbone, ensemble = detector.backbone_, detector.ensemble_
    if calibration is None or backbone is None or ensemble is None:
        raise BundleError(
            expected="a fitted and calibrated detector",
            found="an incomplete one",
            remedy="Fit and calibrate.",
        )
    save_file(_plain(backbone.network), folder / FILES[0])
    densities: dict[str, Tensor] = {}
    for name, density in ensemble.judging:
        densities |= {f"{name}.{k}": v for k, v in _plain(density).items()}
    save_file(densities, folder / FILES[1])
    arrays = {k: torch.from_numpy(v.astype(np.float64)) for k, v in calibration.arrays.items()}
    if calibration.ignored is not None:
        arrays["ignored"] = torch.from_numpy(calibration.ignored.cells.copy())
    arrays["trained_on"] = _hashes_as_tensor(detector._trained_on)
    save_file(arrays, folder / FILES[2])
    references = detector.references_ or References.none(ensemble.complete.wholes[0].shape.features)
    save_file({k: torch.from_numpy(v.copy()) for k, v in references.arrays.items()}, folder / REFERENCES)
    golden = _golden_evidence(detector, settings.seed)
    manifest = Manifest(
        schema_version=SCHEMA,
        model_id=detector.model_id,
        preprocessing=Input(
            sizes=[p.size for p in detector.preprocessing_],
            mean=list(detector.preprocessing_[0].mean),
            std=list(detector.preprocessing_[0].std),
            halving=detector.preprocessing_[0].halving,
        ),
        reading=dict(settings.reading.to_json()),
        scales=[
            Scale(name=s.name, strides=list(s.strides), window=s.window, zoom=s.zoom) for s in settings.scales
        ],
        density=Density(**vars(settings.density)),
        members=[_wholes(m) for m in ensemble.members],
        complete=CompleteShape(
            wholes=_wholes(ensemble.complete),
            patches=[Shape(**p.shape._asdict()) for p in ensemble.complete.patches],
        ),
        calibration=CalibrationFacts(
            alpha_review=calibration.alpha_review,
            alpha_defect=calibration.alpha_defect,
            scheme=_scheme(calibration.scheme),
            real_parts=calibration.real_parts,
        ),
        settings=Chosen(
            seed=settings.seed,
            product=settings.product,
            folds=settings.folds,
            image_size=settings.image_size,
            zooms=list(settings.zooms),
            references=settings.references,
            strides=list(settings.strides),
        ),
        provenance=Provenance(**detector.provenance_),
        golden=Golden(
            seed=settings.seed,
            figures={name: f.tolist() for name, f in golden_figures(golden).items()},
        ),
        files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES},
    )
    (folder / MANIFEST).write_bytes(sealed(manifest.model_dump(mode="json")))


def _scheme(name: str) -> Literal["cross-fitted", "split", "variations"]:
    match name:
        case "cross-fitted" | "split" | "variations":
            return name
        case _:
            raise BundleError(
                expected="a known scheme of calibration", found=name, remedy="Calibrate the detector again."
            )


def _wholes(member: Member) -> list[Whole]:
    return [Whole(**w.shape._asdict(), parts=w.parts) for w in member.wholes]


def _check_files(manifest: Manifest, folder: Path) -> Ensemble:
    """Check what each file declares, and only then its hash: no more is read than the manifest accounts for.

    Returns:
        The densities, whose tensors are placeholders.
    """
    for name in manifest.file_names:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise wrong(f"{name} in the bundle", "no such plain file")
    network, densities, calibration = (declared_tensors(folder / name) for name in FILES[:3])
    own = network_tensors(manifest.provenance.backbone.name, manifest.settings.strides)
    _same_tensors("the backbone", network, {name: _declaration(tensor) for name, tensor in own.items()})
    ensemble = _empty_ensemble(manifest, densities)
    own = {f"{name}.{k}": v for name, density in ensemble.judging for k, v in density.state_dict().items()}
    _same_tensors("the densities", densities, {name: _declaration(tensor) for name, tensor in own.items()})
    _same_tensors(
        "the calibration", calibration, calibration_tensors(manifest, ensemble.kind_features, calibration)
    )
    if REFERENCES in manifest.file_names:
        references = declared_tensors(folder / REFERENCES)
        _same_tensors("the good parts to show", references, _reference_tensors(manifest, references))
    for name in manifest.file_names:
        found = sha256_of(folder / name)
        if found != manifest.files[name]:
            raise wrong(f"{name} with sha256 {manifest.files[name]}", f"sha256 {found}")
    return ensemble


def _rebuild(manifest: Manifest, folder: Path, device: str, ensemble: Ensemble) -> Detector:
    given = manifest.preprocessing
    mean, std = ((a, b, c) for a, b, c in (given.mean, given.std))
    preprocessing = tuple(Preprocessing(size, mean, std, given.halving) for size in given.sizes)
    network = manifest.provenance.backbone
    settings = settings_of(manifest, device)
    detector = Detector(settings)
    state = _read_tensors(folder / FILES[0])
    origin = f"bundle {folder.name}"
    backbone = Backbone(
        network.name,
        Weights(state, origin, network.sha256, network.licence, mean, std),
        settings.strides,
    )
    detector.backbone_ = backbone.to(detector._device)
    detector.preprocessing_ = preprocessing
    if settings.sizes != tuple(given.sizes):
        raise wrong(f"input sizes {settings.sizes}", f"{given.sizes}")
    _fill(ensemble, _read_tensors(folder / FILES[1]))
    detector.ensemble_ = ensemble
    detector.provenance_ = manifest.provenance.model_dump()
    tensors = _read_tensors(folder / FILES[2])
    detector._trained_on = trained_hashes(manifest, tensors.pop("trained_on").numpy())
    detector.references_ = _rebuild_references(manifest, folder, detector._trained_on)
    cells = tensors.pop("ignored").numpy() if "ignored" in tensors else None
    calibration = calibration_of(manifest, {name: t.numpy() for name, t in tensors.items()}, cells)
    detector.ignored_ = calibration.ignored
    detector._adopt(calibration)
    return detector


def _empty_ensemble(manifest: Manifest, declared: Mapping[str, Declared]) -> Ensemble:
    complete, zooms = manifest.complete, len(manifest.settings.zooms)
    if len(complete.patches) != len(manifest.scales):
        raise wrong(f"{len(manifest.scales)} local densities", f"{len(complete.patches)}")
    if any(len(wholes) != zooms for wholes in (*manifest.members, complete.wholes)):
        raise wrong(f"{zooms} global densities a member", "another number")
    shapes: dict[str, Shape] = {
        f"{i}.whole{j}": whole for i, wholes in enumerate(manifest.members) for j, whole in enumerate(wholes)
    }
    shapes |= {f"complete.whole{j}": whole for j, whole in enumerate(complete.wholes)}
    shapes |= {f"complete.patches{j}": patches for j, patches in enumerate(complete.patches)}
    for name, shape in shapes.items():
        held = sum(math.prod(d.shape) for k, d in declared.items() if k.startswith(f"{name}."))
        if held < _least_numbers(_flow_shape(shape)):
            raise wrong(f"the tensors of {name}", f"{held} numbers, too few for its shape")
    members = tuple(Member(tuple(_empty_whole(w) for w in wholes), ()) for wholes in manifest.members)
    local = tuple(PatchDensity(rebuild_flow(s), s) for s in map(_flow_shape, complete.patches))
    return Ensemble(members, Member(tuple(_empty_whole(w) for w in complete.wholes), local))


def _fill(ensemble: Ensemble, tensors: Mapping[str, Tensor]) -> None:
    for name, density in ensemble.judging:
        prefix = f"{name}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        density.load_state_dict(state, strict=True)
        density.eval()


def _flow_shape(shape: Shape) -> FlowShape:
    return FlowShape(**{name: getattr(shape, name) for name in FlowShape._fields})


def _empty_whole(whole: Whole) -> PartDensity:
    shape = _flow_shape(whole)
    return PartDensity(rebuild_flow(shape), shape, whole.parts)


def _least_numbers(shape: FlowShape) -> int:
    """Return how many numbers a flow has at least: none is built that its file could not fill."""
    whitening = shape.features * (shape.features if shape.rank is None else shape.rank + 1)
    return whitening + shape.couplings * shape.hidden * (shape.hidden + shape.leading + shape.context)


def _same_tensors(what: str, found: Mapping[str, Declared], own: Mapping[str, Declared]) -> None:
    if set(found) != set(own):
        raise wrong(f"the tensors of {what} alone", f"others: {min(set(found) ^ set(own))}")
    for name, tensor in own.items():
        if found[name] != tensor:
            raise wrong(f"{what}, {name} of {tensor}", f"{found[name]}")


def _hashes_as_tensor(hashes: Sequence[str]) -> Tensor:
    try:
        digests = [bytes.fromhex(sha256) for sha256 in hashes]
        if any(len(digest) != DIGEST for digest in digests):
            raise ValueError("another number of digits")
    except ValueError as error:
        raise BundleError(
            expected="training parts that are named by a sha256",
            found=first_line(error),
            remedy="Give every Picture the sha256 of its file or its pixels.",
        ) from error
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST).copy())


def _reference_tensors(manifest: Manifest, declared: Mapping[str, Declared]) -> dict[str, Declared]:
    """Return what as many good parts as ``declared`` has consist of."""
    parts, size = (
        declared[name].shape[0] if name in declared and declared[name].shape else 0
        for name in ("statistics", "thumbnails")
    )
    if not 0 <= parts <= MOST_REFERENCES or not 0 <= size <= most_bytes(parts):
        raise wrong(
            f"at most {MOST_REFERENCES} good parts in {most_bytes(MOST_REFERENCES)} bytes",
            f"{parts} in {size}",
        )
    return {
        "statistics": Declared("F16", (parts, manifest.complete.wholes[0].features)),
        "hashes": Declared("U8", (parts, DIGEST)),
        "lengths": Declared("I64", (parts,)),
        "thumbnails": Declared("U8", (size,)),
    }


def _rebuild_references(manifest: Manifest, folder: Path, learned: Sequence[str]) -> References:
    if REFERENCES not in manifest.file_names:
        return References.none(manifest.complete.wholes[0].features)
    tensors = _read_tensors(folder / REFERENCES)
    return References.from_arrays({name: t.numpy() for name, t in tensors.items()}, learned)


def _self_test(detector: Detector, golden: Golden, say: Told) -> None:
    say("golden pictures", check_golden(_golden_evidence(detector, golden.seed), golden.figures))
    say("round trip", _check_health(detector, golden.seed))


def _check_health(detector: Detector, seed: int) -> str:
    """Raise unless every flow still inverts; return how well they do, in words."""
    reports = [_require_health(d.flow, name, seed) for name, d in detector._fitted().judging]
    typical = max(report.median_error for report in reports)
    largest = max(report.largest_error for report in reports)
    far = max(report.far_error for report in reports)
    return (
        f"{len(reports)} densities invert: relative errors of at most {typical:.2g} in the median (limit "
        f"{MEDIAN_LIMIT:g}), {largest:.2g} at worst ({LARGEST_LIMIT:g}), {far:.2g} at {FAR:g} sigma "
        f"({FAR_LIMIT:g})"
    )


def _require_health(flow: Flow, name: str, seed: int) -> HealthReport:
    """Raise unless a flow still inverts, on its own samples and a hundred times as far out."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.zeros(_HEALTH_SAMPLES, flow.context_features) if flow.context_features else None
    try:
        return audit(flow, flow.sample((_HEALTH_SAMPLES,), context, generator=generator), context)
    except UnhealthyFlow as error:
        raise wrong(f"a healthy flow {name}", error.found) from error


def _golden_evidence(detector: Detector, seed: int) -> RawEvidence:
    return detector._evidence(golden_pictures(seed, detector.settings.reading))


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def _declaration(tensor: Tensor) -> Declared:
    return Declared(_DTYPES[tensor.dtype], tuple(tensor.shape))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file whose header was checked; none may hold what is not finite."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, *_UNFIT) as error:
        raise wrong(f"a sound safetensors file {path.name}", first_line(error)) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise wrong(f"finite values in {name}", "some that are not")
    return tensors
