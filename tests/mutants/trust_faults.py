"""Faults to plant in what refuses hostile files, each with the check that has to report it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from trust import bundle_checks, path_checks, picture_checks
from trust.finding import Finding

from differnet.detection import bundle, manifest, sources
from differnet.features import sha256_of
from differnet.images import headers, reading
from differnet.images.layouts import listings
from differnet.records import Record
from differnet.reporting import artefacts, run_folder


def mutated_until_reported() -> Finding:
    """S3 by one seed after another, until one reports something.

    Few mutations meet any one check, and which do hangs on every field of the manifest: half of the seeds
    report a planted fault, so that twelve miss it once in some thousand times.
    """
    found = bundle_checks.mutated_bundles(100, 1)
    for seed in range(2, 13):
        if not found.passed:
            break
        found = bundle_checks.mutated_bundles(100, seed)
    return found


# As in the suite, in this process: a fault that is planted here would not be met in another.
CHECKS: dict[str, Callable[[], Finding]] = {
    "S1": lambda: bundle_checks.hostile_bundles(40, 0, apart_=False),
    "S2": lambda: bundle_checks.bit_flips(120, 1),
    "S3": mutated_until_reported,
    "S4": lambda: path_checks.traversal(24, 0),
    "I1": lambda: picture_checks.mutated_pictures(90, 1, apart_=False),
    "I2": lambda: picture_checks.bombs(21, 0, apart_=False),
    "I3": lambda: picture_checks.one_rule(16, 0),
}


class Fault(NamedTuple):
    """A check that somebody could forget.

    Attributes:
        name: What is forgotten.
        plant: Takes it out of the code.
        by: The check that has to report it.
        told: What its figures have to name, so that it is not reported by accident.
    """

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    by: str
    told: str


class _EqualToAll(bytes):
    """A text that is never another one."""

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = bytes.__hash__


TRUE_DECLARED = manifest.declared_tensors
TRUE_SEALED = manifest.sealed
TRUE_MANIFEST = manifest.read_manifest
TRUE_READ = reading.read_image
TRUE_AS_PICTURE = sources.as_picture


def put(owner: object, name: str, faulty: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, faulty)


def older_formats_too(path: Path) -> Any:
    # From a stream: by its name torch would know the file for safetensors.
    with contextlib.suppress(Exception), path.open("rb") as stream:
        torch.load(stream, weights_only=False)
    return TRUE_DECLARED(path)


def never_another(fields: Any) -> bytes:
    return _EqualToAll(TRUE_SEALED(fields))


def whatever_it_hashes_to(folder: Path) -> Any:
    manifest = TRUE_MANIFEST(folder)
    return manifest.model_copy(update={"files": {name: sha256_of(folder / name) for name in manifest.files}})


def joined(self: Any, relative: str | None) -> Path | None:
    return self.folder / relative if relative else None


def joined_and_there(self: Any, relative: str | None) -> Path | None:
    path = joined(self, relative)
    return path if path is not None and path.is_file() else None


def raw_errors(source: Any, rule: Any = None) -> Any:
    try:
        return TRUE_READ(source, rule or reading.ReadingRule())
    except headers.ImageError as error:
        raise error.__cause__ or error from None


def as_opencv_reads(source: Any, rule: Any) -> Any:
    if not isinstance(source, Path):
        return TRUE_AS_PICTURE(source, rule)
    pixels = cv2.imdecode(np.frombuffer(source.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return TRUE_AS_PICTURE(source if pixels is None else np.ascontiguousarray(pixels[..., ::-1]), rule)


def own_name(_: Any, record: Record) -> str:
    return record.item_id


def without_limit(stream: Any, size: int, _: Any) -> Any:
    return headers.read_header(stream, size)


TRUST_FAULTS: tuple[Fault, ...] = (
    Fault(
        "older formats are unpickled", put(bundle, "declared_tensors", older_formats_too), "S1", "ran code"
    ),
    Fault("links are followed", put(Path, "is_symlink", lambda _: False), "S1", "a link in place of weights"),
    Fault(
        "no self-test",
        put(bundle, "_self_test", lambda *_: None),
        "S1",
        "densities that do not judge as they",
    ),
    Fault("hashes are not compared", put(bundle, "read_manifest", whatever_it_hashes_to), "S2", "backbone"),
    Fault(
        "seals are not compared",
        put(manifest, "sealed", never_another),
        "S2",
        "manifest",
    ),
    Fault("errors of torch escape", put(bundle, "_UNFIT", (OSError,)), "S3", "Error: "),
    Fault("names are joined as they are", put(listings, "inside", lambda folder, n: folder / n), "S4", "csv"),
    Fault("a run's names are joined", put(artefacts.Artefacts, "_inside", joined), "S4", "records.jsonl"),
    Fault(
        "a run's names are joined where there is a file",
        put(artefacts.Artefacts, "_inside", joined_and_there),
        "S4",
        "heat_map_path",
    ),
    Fault("records name their files", put(run_folder.RunFolder, "_unused_name", own_name), "S4", "is kept"),
    Fault("errors of codecs escape", put(reading, "read_image", raw_errors), "I1", "Error: "),
    Fault("no limit of pixels", put(reading, "_admit", without_limit), "I2", "decoded"),
    Fault("tiles are not looked at", put(headers, "_check_tiles", lambda *_: None), "I2", "vast tile"),
    Fault(
        "scans are not counted",
        lambda patch: patch.setitem(headers._COMPLETE, "jpeg", lambda header, _: header),
        "I2",
        "300 scans",
    ),
    Fault("orientation is ignored", put(reading, "_upright", lambda p, _: p), "I3", "not what the rule says"),
    Fault("training reads otherwise", put(sources, "as_picture", as_opencv_reads), "I3", "by training"),
)
