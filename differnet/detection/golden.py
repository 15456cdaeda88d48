"""Golden pictures: what a model said of them once, whatever computes it now has to say again. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from differnet.detection.evidence import RawEvidence
from differnet.detection.manifest import wrong
from differnet.detection.sources import as_picture
from differnet.images.reading import ReadingRule
from differnet.records import Picture

GOLDEN_PICTURES = 3
# What a golden picture has to reproduce: everything that verdicts and records rest on but the maps.
_FIGURES = ("whole", "local", "nll_whole", "nll_local", "extent", "cells", "kinds")
# float32 sums in another order, on another processor, move an energy by about 1e-5 of its size, and its
# logarithm by as much.
_TOLERANCE = 1e-4
# In half precision a network's maps move by a hundredth of their deviation; figures of one model, of MTD's
# tiles, differed by up to 1.3e-3.
_HALF_TOLERANCE = 5e-3


def golden_pictures(seed: int, rule: ReadingRule) -> list[Picture]:
    """Return three pictures made from the seed alone: clouds, not anybody's parts."""
    generator = np.random.default_rng(seed)
    pictures = []
    for _ in range(GOLDEN_PICTURES):
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pictures.append(as_picture(np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1), rule))
    return pictures


def golden_figures(evidence: RawEvidence) -> dict[str, NDArray[np.float64]]:
    """Return what is kept of the evidence of golden pictures, a row a picture."""
    figures = evidence.figures | {"nll_whole": evidence.nll_whole[:, None]}
    return {name: figures[name] for name in _FIGURES}


def check_golden(
    evidence: RawEvidence, golden: Mapping[str, Sequence[Sequence[float]]], *, half: bool = False
) -> str:
    """Raise unless the golden figures are reproduced; return how well they are, in words.

    Args:
        evidence: Of `golden_pictures`.
        golden: The figures of `golden_figures` that a model keeps.
        half: Whether the network computed in half precision.

    Raises:
        BundleError: They are others.
    """
    every = golden_figures(evidence)
    if set(every) != set(golden):
        raise wrong(f"golden figures of {', '.join(every)}", ", ".join(sorted(golden)) or "none")
    largest, tolerance = 0.0, _HALF_TOLERANCE if half else _TOLERANCE
    for name, found in every.items():
        expected = np.asarray(golden[name])
        alike = found.shape == expected.shape
        difference = float(np.abs(found - expected).max(initial=0.0)) if alike else np.inf
        # Rounding grows with the vector that a figure comes from, not with the figure itself.
        allowed = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
        if not difference <= allowed:
            raise wrong(
                f"the golden pictures' figures of {name} to {allowed:.3g}",
                f"a difference of {difference:.3g}",
            )
        largest = max(largest, difference / allowed)
    number = sum(figures.size for figures in every.values())
    return f"{number} figures of {GOLDEN_PICTURES} pictures reproduced, to {largest:.1%} of what is allowed"
