"""Put a new model in the place of the one in use, and back, so that there is always one or the other.

A folder cannot be renamed over another one. Linux and macOS can exchange two folders in one step, and that
step is the promotion: everything before prepares it out of sight, everything after only tidies up. What a
crash leaves behind is told by names alone and finished, or undone, by the next promotion (`recover`):

    ``.MODEL.coming-<digest>``  a copy of the new model before that step, the old model after it
    ``.MODEL.leaving``          the old model, where the system cannot exchange folders

Where the system or the file system cannot exchange folders, the model is renamed away and the new one in:
for an instant there is none, and what a crash leaves in it is mended by the next promotion.

Thresholds that people set lie beside a model, and are for one model and calibration each. They are added to
the place's own file before that step, where the model that is still in use does not heed them; so they come
into force with their model, in the same step.
"""

from __future__ import annotations

import ctypes
import errno
import filecmp
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from differnet.detection.manifest import EXPORTED
from differnet.durable import alone_in, sync_file, sync_folder, write_file
from differnet.evaluation.intervals import percent
from differnet.records import DiffernetError
from differnet.reviewing.comparing import Comparison

if TYPE_CHECKING:
    from differnet.detection import Detector

_MANIFEST = "manifest.json"
# Of the manifest's sha256: enough to tell a folder's two possible models apart.
_DIGITS = 16
# renameat2 of Linux, renameatx_np of macOS: the working folder, and the flag that says exchange.
_EXCHANGE = {"linux": ("renameat2", -100, 2), "darwin": ("renameatx_np", -2, 2)}
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class PromotionError(DiffernetError):
    """A model that may not take another one's place, or cannot."""


def objections(comparison: Comparison | None, old: Detector, new: Detector) -> tuple[str, ...]:
    """Say what speaks against putting a new model in the place of the one in use.

    Args:
        comparison: That is kept beside the new model, if any.
        old: The model in use, with the thresholds in force.
        new: The new one, likewise.

    Returns:
        Sentences; none where nothing does.
    """
    ours, theirs = old.facts(), new.facts()
    told: list[str] = []
    if ours["product"] != theirs["product"]:
        told.append(f"the model is of {ours['product']!r}, the new one of {theirs['product']!r}")
    if comparison is None:
        return (*told, "no comparison is kept beside the new model")
    for facts, side, words in ((ours, comparison.old, "present"), (theirs, comparison.new, "new")):
        if facts["model_id"] != side.model_id:
            told.append(f"its comparison is of {words} model {side.model_id}, not {facts['model_id']}")
        elif facts["calibration_id"] != side.calibration_id:
            told.append(f"the {words} model was calibrated again since the comparison")
        elif (facts["t_review"], facts["t_defect"]) != (side.t_review, side.t_defect):
            told.append(f"the {words} model's thresholds were changed since the comparison")
    if not comparison.pictures:
        told.append("the comparison is of no picture at all")
    difference = comparison.difference
    if difference is not None and difference.word == "below":
        told.append(
            f"the new model tells defects from good parts worse: AUROC {difference.difference:+.4f} "
            f"({difference.low:+.4f} to {difference.high:+.4f})"
        )
    for name, before, after in (
        ("defects pass", comparison.old.escape, comparison.new.escape),
        ("good parts are rejected", comparison.old.overkill, comparison.new.overkill),
    ):
        if after.events > before.events:
            told.append(
                f"more {name}: {after.events:,} of {after.of:,} ({percent(after.share or 0)}), "
                f"not {before.events:,}"
            )
    return tuple(told)


def promote(new: Path, model: Path) -> bool:
    """Put a copy of a new model in a model's place; the old one becomes ``MODEL.previous``.

    Whatever fails, and wherever the process ends, there is the old model or the new one, whole. The new
    model's own folder stays as it is. Of two promotions at once one waits for the other.

    Args:
        new: A sound model's folder, which may lie on another disk.
        model: A model's folder. Of a link, the folder that it points to.

    Returns:
        Whether it was one step; else there was an instant without a model.

    Raises:
        PromotionError: The two are the same model, something else stands in the previous one's place, or the
            copy is not what was copied.
        OSError: The disk refused. The old model is in its place unless only tidying up was left.
    """
    with alone_in(model.resolve().parent):
        return _promote(new, model)


def _promote(new: Path, model: Path) -> bool:
    _recover(model)
    place = model.resolve()
    digest = _digest(new)
    if digest is not None and digest == _digest(place):
        raise PromotionError(
            expected=f"another model than the one at {model}",
            found=f"the same at {new}",
            remedy="It is in its place already.",
        )
    _require_model_or_nothing(previous_of(model))
    coming = _hidden(place, f"coming-{digest}")
    try:
        _copy(new, coming)
        old = _switch(coming, place)
    except BaseException:
        if not _is_old(coming):
            shutil.rmtree(coming, ignore_errors=True)
        raise
    sync_folder(place.parent)
    _retire(old, place)
    return old == coming


def put_back(model: Path) -> bool:
    """Exchange a model with the previous one; asked again, it exchanges them again.

    Returns:
        Whether it was one step; else there was an instant without a model.

    Raises:
        PromotionError: There is no previous one.
        OSError: The disk refused. A model is in its place.
    """
    with alone_in(model.resolve().parent):
        return _put_back(model)


def _put_back(model: Path) -> bool:
    _recover(model)
    place, previous = model.resolve(), previous_of(model)
    if not (previous / _MANIFEST).is_file():
        raise no_previous(model)
    old = _switch(previous, place)
    if old != previous:
        old.rename(previous)
    sync_folder(place.parent)
    return old == previous


def recover(model: Path) -> bool:
    """Finish or undo what a promotion left that was cut off.

    Returns:
        Whether there was anything.

    Raises:
        OSError: The disk refused.
    """
    with alone_in(model.resolve().parent):
        return _recover(model)


def _recover(model: Path) -> bool:
    place = model.resolve()
    found = False
    leaving = _hidden(place, "leaving")
    if leaving.exists():
        found = True
        if place.exists():
            _retire(leaving, place)
        else:
            leaving.rename(place)
    for coming in _coming(place):
        found = True
        if _is_old(coming):
            _retire(coming, place)
        else:
            shutil.rmtree(coming)
    if found:
        sync_folder(place.parent)
    return found


def previous_of(model: Path) -> Path:
    """Return where the model is kept that stood at ``model`` before."""
    place = model.resolve()
    return place.with_name(f"{place.name}.previous")


def no_previous(model: Path) -> PromotionError:
    """Make the error of a model that has nothing to go back to."""
    return PromotionError(
        expected=f"the previous model at {previous_of(model)}",
        found="none",
        remedy="There is one after the first promotion: differnet promote NEW MODEL.",
    )


def carry_thresholds(source: Path, model: Path, detector: Detector, author: str, reason: str) -> bool:
    """Keep in a place the thresholds of a model that is to stand there, before it does.

    Args:
        source: Where the model lies now.
        model: The place.
        detector: The model, loaded from ``source``.
        author: Who puts it there.
        reason: Why.

    Returns:
        Whether there were any that the place did not know.

    Raises:
        RevisionError: A file of thresholds is damaged, or the disk refused.
    """
    from differnet.calibration import Suggestion
    from differnet.detection import in_force, revisions_of

    theirs, ours = (in_force(detector, folder).revision for folder in (source, model))
    if theirs is None:
        return False
    if ours is not None and (ours.review, ours.defect) == (theirs.review, theirs.defect):
        return False
    chosen = Suggestion(theirs.review, theirs.defect, theirs.rule, theirs.promises, theirs.cannot)
    revisions_of(model).append(
        chosen,
        author=author,
        reason=f"{reason} (with its model; set by {theirs.author}: {theirs.reason})",
        model_id=theirs.model_id,
        calibration_id=theirs.calibration_id,
    )
    return True


def keep_thresholds_beside_previous(model: Path) -> None:
    """Copy a place's thresholds beside the model that is to be the previous one, before it is.

    The file holds those of every model that ever stood there; each heeds its own.

    Raises:
        OSError: The disk refused.
    """
    from differnet.detection import revisions_of

    kept = revisions_of(model).path
    if kept.is_file():
        write_file(revisions_of(previous_of(model)).path, kept.read_bytes())


def _require_model_or_nothing(previous: Path) -> None:
    """Refuse to discard what is no model."""
    names = {path.name for path in previous.iterdir()} if previous.is_dir() else set()
    known = {_MANIFEST, EXPORTED}
    strangers = sorted(name for name in names if name not in known and not name.endswith(".safetensors"))
    if strangers or (previous.exists() and not previous.is_dir()):
        raise PromotionError(
            expected=f"a model at {previous}, or nothing",
            found=f"something else, such as {strangers[0]}" if strangers else "a file",
            remedy="Move it away: the model that is replaced is kept there.",
        )


def _copy(new: Path, coming: Path) -> None:
    """Copy a model to where nobody looks for one, and have it on the disk."""
    coming.mkdir()
    for there in sorted(new.rglob("*")):
        here = coming / there.relative_to(new)
        if there.is_dir() and not there.is_symlink():
            here.mkdir()
            continue
        if there.name == _MANIFEST:
            # Whole or not at all: by it is told which model this is.
            write_file(here, there.read_bytes())
        else:
            shutil.copyfile(there, here)
            sync_file(here)
        if not filecmp.cmp(there, here, shallow=False):
            raise PromotionError(
                expected=f"a copy of {there}",
                found="another content",
                remedy="The disk or the memory is not sound, or the file is being written.",
            )
    for folder in (*(path for path in coming.rglob("*") if path.is_dir()), coming, coming.parent):
        sync_folder(folder)


def _switch(coming: Path, place: Path) -> Path:
    """Put a folder in another one's place, and return where that one is now."""
    if _exchange(coming, place):
        return coming
    leaving = _hidden(place, "leaving")
    place.rename(leaving)
    try:
        coming.rename(place)
    except BaseException:
        leaving.rename(place)
        raise
    return leaving


def _retire(old: Path, place: Path) -> None:
    """Make the old model the previous one; the one before goes. Begun again after a crash it goes on."""
    previous = previous_of(place)
    if previous.exists():
        shutil.rmtree(previous)
    old.rename(previous)
    sync_folder(place.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; return False where that cannot be done here, and nothing was.

    Raises:
        OSError: It can be done here, but was refused.
    """
    name, here, wish = _EXCHANGE.get(sys.platform, ("", 0, 0))
    call = None
    if name:
        with suppress(AttributeError, OSError):
            call = getattr(ctypes.CDLL(None, use_errno=True), name)
    if call is None:
        return False
    if call(here, os.fsencode(first), here, os.fsencode(second), wish) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def _digest(folder: Path) -> str | None:
    try:
        content = (folder / _MANIFEST).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _is_old(coming: Path) -> bool:
    """Tell whether a folder that was made for a new model holds the old one: the two were exchanged."""
    digest = _digest(coming)
    return digest is not None and not coming.name.endswith(digest)


def _hidden(place: Path, what: str) -> Path:
    return place.with_name(f".{place.name}.{what}")


def _coming(place: Path) -> Iterator[Path]:
    begins = _hidden(place, "coming-").name
    return iter([path for path in place.parent.iterdir() if path.name.startswith(begins)])
