"""The good parts that a model was calibrated on, read off its bundle without torch.

A page that tunes thresholds asks how strange those parts are, and nothing else of the model. It need not wait
for the network and the densities to be loaded, and checks what it reads as far as loading would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from differnet.detection.manifest import BundleError, Manifest, first_line, read_manifest, wrong
from differnet.detection.stored import read_stored
from differnet.detection.usual import (
    Usual,
    calibration_name,
    good_strangeness,
    own_thresholds,
    rates_of,
)
from differnet.records import DiffernetError

# What tensors that do not belong together raise.
_UNFIT = (ArithmeticError, LookupError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class GoodParts:
    """Good parts that a model was calibrated on, and what follows from them alone.

    Attributes:
        strangeness: ``(n,)`` each left out of what is usual, as `Detector.good_strangeness`.
        parts: Different parts; fewer than ``n`` where variations of very few parts were calibrated on.
        promised: Whether a rate of them holds for new good parts; not of variations.
        scheme: ``cross-fitted``, ``split`` or ``variations``.
        alpha_review, alpha_defect: Shares of good parts that the calibration's own thresholds may flag.
        t_review, t_defect: Those thresholds.
        model_id, calibration_id: Of the two, as records carry them.
    """

    strangeness: NDArray[np.float64]
    parts: int
    promised: bool
    scheme: str
    alpha_review: float
    alpha_defect: float
    t_review: float
    t_defect: float
    model_id: str
    calibration_id: str


def read_good_parts(folder: Path) -> GoodParts:
    """Read which good parts a model was calibrated on.

    The manifest's form and seal, the sha256 of every file, and names, shapes, types and finiteness of the
    calibration's tensors are checked. The densities are not rebuilt and do not prove themselves: that the
    manifest tells their ``model_id`` rightly is only seen when the model is loaded.

    Args:
        folder: Of the model.

    Raises:
        BundleError: There is no bundle, or it is not as it was written.
    """
    manifest = read_manifest(folder)
    try:
        return _read(manifest, folder)
    except BundleError:
        raise
    except (DiffernetError, SafetensorError, *_UNFIT) as error:
        raise wrong("a calibration whose figures fit each other", first_line(error)) from error


def _read(manifest: Manifest, folder: Path) -> GoodParts:
    stored = read_stored(manifest, folder)
    arrays, ignored = stored.arrays, stored.ignored
    facts = manifest.calibration
    good = good_strangeness(Usual.of(arrays).held_out.sums)["total"]
    promised = facts.real_parts is None
    review, defect = own_thresholds(good, facts.alpha_review, facts.alpha_defect, promised=promised)
    rates = rates_of(facts.alpha_review, facts.alpha_defect, facts.scheme, facts.real_parts)
    return GoodParts(
        strangeness=good,
        parts=len(good) if facts.real_parts is None else facts.real_parts,
        promised=promised,
        scheme=facts.scheme,
        alpha_review=facts.alpha_review,
        alpha_defect=facts.alpha_defect,
        t_review=review,
        t_defect=defect,
        model_id=manifest.model_id,
        calibration_id=calibration_name(rates, arrays, ignored),
    )
