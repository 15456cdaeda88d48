"""Parts drawn at random, in the form that thresholds act on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from differnet.reporting.counts import VERDICTS, Columns, Truth
from differnet.tuning import Parts

DrawParts = Callable[..., Parts]


@pytest.fixture
def draw_parts() -> DrawParts:
    """Draw parts: exponentially strange good ones, stranger defects, some fixed, doubted or absent."""

    def draw(number: int = 400, seed: int = 0, labelled: bool = True, plain: bool = False) -> Parts:
        rng = np.random.default_rng(seed)
        truth = rng.choice(4, number, p=[0.6, 0.2, 0.05, 0.15]).astype(np.int8)
        if not labelled:
            truth[:] = Truth.UNLABELLED
        faulty = (truth == Truth.DEFECT) | (truth == Truth.WRONG_INPUT)
        # Rounded, so that ties occur.
        strangeness = np.round(rng.exponential(0.43, number) + faulty * rng.exponential(2.0, number), 2)
        fixed = np.full(number, -1, dtype=np.int8)
        doubted = np.zeros(number, dtype=bool)
        if not plain:
            fixed[rng.random(number) < 0.02] = VERDICTS.index(VERDICTS[3])
            absent = rng.random(number) < 0.02
            fixed[absent], strangeness[absent] = VERDICTS.index(VERDICTS[4]), np.nan
            doubted = rng.random(number) < 0.02
        kinds = ("dent", "scratch", "stain")
        kind = np.where(faulty, rng.integers(0, 3, number), -1).astype(np.int32)
        p_value = np.clip(10.0**-strangeness, 1 / 101, 1)
        return Parts(Columns(strangeness, truth, fixed, doubted, p_value), kinds, kind)

    return draw
