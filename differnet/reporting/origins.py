"""Where the picture of a record and the model that judged it lie now, and whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet.images.layouts import masks_near
from differnet.images.reading import ImageError, read_masks
from differnet.records import DiffernetError, Record
from differnet.store import RunEntry, Store

_MANIFEST = "manifest.json"
# A manifest is some kilobytes; a larger file is none.
_LARGEST_MANIFEST = 4 << 20
# As batch jobs keep it among the facts of a run.
_MODEL = "model_folder"


class OriginError(DiffernetError):
    """A picture or a model that is not where the record says, or is another one now."""


def find_picture(record: Record, roots: Iterable[Path]) -> Path:
    """Find the very picture that was judged.

    Args:
        record: Of the picture.
        roots: Where a relative path may begin, the likeliest first.

    Returns:
        Its file, whose sha256 is the record's.

    Raises:
        OriginError: It is not there, or is another picture now.
    """
    if not record.path or not record.sha256:
        raise OriginError(
            expected="a picture with a path and a sha256 on record",
            found="one without",
            remedy="Inspect the picture again from its file.",
        )
    there = None
    for root in roots:
        path = root / record.path
        if (found := _sha256(path)) == record.sha256:
            return path
        there = there or (path if found else None)
    if there is None:
        raise OriginError(
            expected=f"the picture at {record.path}",
            found="nothing there that can be read",
            remedy="Put the file back, or start the dashboard where relative paths begin.",
        )
    raise OriginError(
        expected=f"the picture of sha256 {record.sha256[:16]}... at {there}",
        found="another picture: the file was changed since it was inspected",
        remedy="Put the file back that was inspected, or inspect the new one.",
    )


def find_model(store: Store, run: RunEntry, record: Record) -> Path:
    """Find the bundle of the model that judged a picture.

    Args:
        store: The record.
        run: Of the picture.
        record: Of the picture.

    Returns:
        Its folder, where a manifest lies. Whether it is that very model is known when it is loaded.

    Raises:
        OriginError: The record knows no folder, or there is no model in it.
    """
    known = store.model(record.model_id)
    told = run.facts.get(_MODEL) if run.model_id == record.model_id else None
    places = [place for place in (told, known.folder if known else "") if isinstance(place, str) and place]
    for place in places:
        if (Path(place) / _MANIFEST).is_file():
            return Path(place)
    raise OriginError(
        expected=f"the folder of model {record.model_id}",
        found=f"no model at {places[0]}" if places else "none that the record knows",
        remedy="Put the model back there, or put it into the dashboard's workspace.",
    )


def bundle_digest(folder: Path) -> str:
    """Return the sha256 of a model's manifest, which carries the hashes of all its other files.

    Raises:
        OriginError: There is none, or it cannot be read.
    """
    manifest = folder / _MANIFEST
    try:
        if manifest.stat().st_size <= _LARGEST_MANIFEST:
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        found = "a file that is too large for one"
    except OSError as error:
        found = str(error.strerror)
    raise OriginError(
        expected=f"a model's manifest at {manifest}", found=found, remedy="Put the model back there."
    )


def true_mask(picture: Path, height: int, width: int) -> NDArray[np.bool_] | None:
    """Read the ground truth that lies with a picture, as the layouts of folders know it.

    Args:
        picture: Its file.
        height: Of the picture, pixels.
        width: Of the picture, pixels.

    Returns:
        ``(height, width)``, true on the defect; ``None`` where there is no mask, or one that marks nothing.

    Raises:
        OriginError: A mask cannot be read, or has another shape than the picture.
    """
    paths = masks_near(picture)
    if not paths:
        return None
    try:
        mask = read_masks(paths, (height, width))
    except ImageError as error:
        raise OriginError(expected=error.expected, found=error.found, remedy=error.remedy) from error
    return mask if bool(mask.any()) else None


def _sha256(path: Path) -> str:
    """Return the sha256 of a file, empty where it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        # A name that no file can have, or a file that may not be read.
        return ""
