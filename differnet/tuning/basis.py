"""The good parts that promises are made from: the calibration's own, or what else there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet.calibration import Revision
from differnet.detection import BundleError, read_good_parts, revision_in_force, revisions_of
from differnet.detection.manifest import MANIFEST
from differnet.reporting.counts import Truth
from differnet.tuning.parts import Parts

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """Good parts that were not trained on, and what is in force for them.

    Attributes:
        good: ``(n,)`` strangeness; empty where nobody knows of a good part.
        of_model: Whether they are those that the model was calibrated on; else they are the run's own.
        parts: Different parts behind them.
        variations: Parts behind a calibration on variations of them, from which no rate follows; ``None``
            where rates hold.
        t_review, t_defect: Thresholds in force for the model now; those of the run where nobody knows.
        revision: That was put in force; ``None`` where the calibration's own thresholds are.
        last: How many revisions the model's place had, whatever they were for; 0 where nobody knows.
        own: The calibration's own thresholds, where they are known.
        problem: Why the model itself was not asked, a sentence; empty where it was.
    """

    good: Figures
    of_model: bool
    parts: int
    variations: int | None
    t_review: float
    t_defect: float
    revision: Revision | None
    last: int
    own: tuple[float, float] | None
    problem: str

    @property
    def promised(self) -> bool:
        """Whether a rate of the good parts holds for new ones."""
        return self.variations is None

    @property
    def words(self) -> str:
        """Which parts these are."""
        if self.of_model:
            return f"the {self.parts:,} good parts that the model was calibrated on"
        return f"the {self.parts:,} labelled good parts of this run" if self.parts else "no good parts"


def basis_of(
    folder: Path | None,
    model_id: str,
    calibration_id: str,
    parts: Parts,
    thresholds: tuple[float, float],
    variations: int | None = None,
) -> Basis:
    """Find the good parts that promises about a run's model can be made from.

    Args:
        folder: Where the model's bundle lies, if anybody knows.
        model_id: Of the run.
        calibration_id: Of the run; another calibration measures on another scale.
        parts: Of the run, whose good ones stand in where the model cannot be asked.
        thresholds: T1 and T2 of the run.
        variations: Parts behind the run's calibration where it was one on variations of them, as far as the
            run says.

    Raises:
        RevisionError: The file of thresholds beside the model is damaged.
    """
    problem = "The record does not say where the model lies."
    if folder is not None:
        try:
            found = read_good_parts(folder)
        except BundleError as error:
            problem = f"The model cannot be read: {error}"
        else:
            if (found.model_id, found.calibration_id) == (model_id, calibration_id):
                revision = revision_in_force(folder, model_id, calibration_id).revision
                own = found.t_review, found.t_defect
                active = own if revision is None else (revision.review, revision.defect)
                few = None if found.promised else found.parts
                last = len(revisions_of(folder).history())
                return Basis(found.strangeness, True, found.parts, few, *active, revision, last, own, "")
            other = "calibrated again" if found.model_id == model_id else "replaced by another"
            problem = f"The model in {folder} was {other} since this run: its figures are on another scale."
    columns = parts.columns
    usable = (columns.truth == Truth.GOOD) & np.isfinite(columns.strangeness) & ~columns.doubted
    good = columns.strangeness[usable]
    return Basis(good, False, len(good), variations, *thresholds, None, 0, None, problem)


def state_of(folder: Path | None) -> tuple[int, ...]:
    """Return numbers that change with the model in a folder and the thresholds that are set for it.

    Args:
        folder: Of the model, if anybody knows.
    """
    if folder is None:
        return ()
    told: list[int] = []
    for path in (folder / MANIFEST, revisions_of(folder).path):
        try:
            found = path.stat()
        except OSError:
            # Not there, or not to be read: who asks for the figures is told why.
            told += (0, 0)
        else:
            told += (found.st_mtime_ns, found.st_size)
    return tuple(told)
