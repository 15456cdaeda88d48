"""C1 to C4 of ``design/trust.md`` at full size: what is promised of false alarms, discoveries and escapes."""

from __future__ import annotations

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController
from numpy.typing import NDArray
from scipy import stats

from differnet.calibration import by_escape
from validity import promises


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("n", [100, 500, 1000, 5000])
def test_overkill_has_its_beta_law(n: int, alpha: float) -> None:
    for line in promises.overkill_has_its_beta_law(2000, n, alpha):
        print(line)


def test_p_values_are_super_uniform_in_each_product() -> None:
    for line in promises.p_values_are_super_uniform_in_each_product(2000):
        print(line)


def test_cross_p_values_keep_their_bound() -> None:
    print(*promises.cross_p_values_keep_their_bound(1000))


def test_discoveries_keep_their_rate() -> None:
    print(*promises.discoveries_keep_their_rate(1000), sep="\n")


@pytest.mark.parametrize("d", [59, 100, 400])
def test_escapes_keep_their_confidence(d: int) -> None:
    print(*promises.escapes_keep_their_confidence(1000, d))


def test_review_budget_has_its_beta_law() -> None:
    print(*promises.review_budget_has_its_beta_law(1000))


def test_cost_bound_is_kept() -> None:
    print(*promises.cost_bound_is_kept(500))


def test_overkill_without_defects_is_kept() -> None:
    print(*promises.overkill_without_defects_is_kept(1000))


GRID = np.round(np.linspace(0.005, 0.995, 199), 3)


def strange_defects(seed: int) -> NDArray[np.float64]:
    """Return defects between 0 and 1, not on the grid, some of them mild."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.beta(4, 2, size=int(rng.integers(60, 300))))


@pytest.mark.parametrize("seed", range(20))
def test_escape_threshold_is_that_of_learn_then_test_on_a_grid(seed: int) -> None:
    """Against thresholds fixed beforehand, tested from low to high by ``scipy.stats.binomtest``."""
    defects = strange_defects(seed)
    passed = []
    for limit in GRID:
        escapes = int(np.sum(defects < limit))
        if stats.binomtest(escapes, len(defects), 0.1, alternative="less").pvalue > 0.1:
            break
        passed.append(float(limit))
    found = by_escape([0.0], defects, 0.1, 0.9, alpha_defect=0.5).review
    assert passed[-1] <= found < passed[-1] + 0.005


@pytest.mark.parametrize("defects", [64, 128, 256])
def test_escape_threshold_agrees_with_mapie(defects: int) -> None:
    """Recall of at least 90 % at 90 % confidence, by MAPIE's learn then test of a fixed sequence.

    Of powers of two, whose shares are exact: MAPIE rounds ``n * (1 - recall)`` up, and counts an escape too
    many where the product is a little above a whole number.
    """
    strange = np.random.default_rng(defects).beta(4, 2, size=defects)
    controller = BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="recall",
        target_level=0.9,
        confidence_level=0.9,
        list_predict_params=GRID,
        fwer_method="fixed_sequence",
    )
    controller.calibrate(strange[:, None], np.ones(defects, dtype=int))
    found = by_escape([0.0], strange, 0.1, 0.9, alpha_defect=0.5).review
    highest = float(np.max(controller.valid_predict_params))
    assert highest <= found < highest + 0.005
