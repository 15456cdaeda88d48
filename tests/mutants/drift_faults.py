"""Faults to plant in tests of typicality and drift, each with the check that has to notice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.calibration import combination, drift, monitor, permutation, typicality
from mutants.calibration_faults import Fault

Values = NDArray[np.float64]
Places = NDArray[np.int32]
Plant = Callable[[pytest.MonkeyPatch], None]


def put(owner: object, name: str, faulty: Any) -> Plant:
    return lambda patch: patch.setattr(owner, name, faulty)


def everywhere(name: str, faulty: Any) -> Plant:
    """Plant in every module that imported ``name``, and where it is defined."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for owner in (permutation, typicality, drift):
            if hasattr(owner, name):
                patch.setattr(owner, name, faulty)

    return plant


def without_itself(calibration: int, batch: int, draws: int, seed: int) -> Places:
    """Return places whose first row is another batch."""
    return TRUE_EXCHANGED(calibration, batch, draws, seed)[::-1]


def bootstrapped(calibration: int, batch: int, draws: int, seed: int) -> Places:
    """Return batches of calibration parts alone, as the paper has it."""
    places = TRUE_EXCHANGED(calibration, batch, draws, seed)
    drawn = np.random.default_rng(seed).integers(0, calibration, (len(places) - 1, batch), dtype=np.int32)
    return np.concatenate([places[:1], drawn])


def neighbours(calibration: int, batch: int, draws: int, seed: int) -> Places:
    """Return runs of neighbouring calibration parts instead of any."""
    places = TRUE_EXCHANGED(calibration, batch, draws, seed)
    return np.concatenate([places[:1], places[1:, :1] * 0 + np.sort(places[1:], axis=1)[:, :batch] // 2])


def from_above(figures: Values) -> Values:
    return permutation.upper(figures)


def itself_not_counted(p_values: Values, sizes: Values) -> Values:
    return np.asarray(TRUE_JOINTLY(p_values, sizes) - 1 / len(p_values))


def each_on_its_own(p_values: Values, sizes: Values) -> Values:
    return np.asarray(p_values[0])


def untied(p_values: Values, sizes: Values) -> Values:
    return np.asarray((p_values.min(axis=1)[:, None] < p_values[0]).mean(axis=0) + 1 / len(p_values))


def far_without_itself(calibration: Any, batches: Any, draws: int = 0, seed: int = 0) -> Values:
    """Return p-values without the 1 in (1 + #)."""
    rows = len(calibration) + 1 if np.shape(batches)[1] == 1 else draws + 1
    return np.asarray(TRUE_TYPICALITY(calibration, batches, draws, seed) - 1 / rows) * rows / (rows - 1)


def entropy_of_calibration(calibration: Any, batches: Any, draws: int = 0, seed: int = 0) -> Values:
    """Return p-values of single parts against an entropy that the part itself had no share in."""
    good = np.asarray(calibration, float)
    far, asked = np.abs(good - good.mean()), np.abs(np.asarray(batches)[:, 0] - good.mean())
    return np.asarray((1 + np.sum(far >= asked[:, None], axis=1)) / (len(good) + 1))


def only_too_strange(calibration: Any, batches: Any, draws: int = 0, seed: int = 0) -> Values:
    p = TRUE_TYPICALITY(calibration, batches, draws, seed)
    return np.where(np.mean(batches, axis=1) > np.mean(calibration), p, 1.0)


def harmonic(p_values: Any, rule: str = "bonferroni") -> Values:
    p = np.asarray(p_values, float)
    return np.asarray(1 / np.mean(1 / p, axis=-1)) if rule == "mean" else TRUE_COMBINE(p, rule)  # type: ignore[arg-type]


def mean_alone(p_values: Any, rule: str = "bonferroni") -> Values:
    found = TRUE_COMBINE(p_values, rule)  # type: ignore[arg-type]
    return np.asarray(found / 2 if rule == "mean" else found)


def smallest_alone(p_values: Any, rule: str = "bonferroni") -> Values:
    found = TRUE_COMBINE(p_values, rule)  # type: ignore[arg-type]
    return np.min(p_values, axis=-1) if rule == "bonferroni" else found


def without_the_line(calibration: Any, strangeness: Any, seed: int = 0) -> Values:
    """Return p-values that share their calibration parts."""
    good, line = np.sort(np.asarray(calibration, float)), np.asarray(strangeness, float)
    above = len(good) - np.searchsorted(good, line, side="right")
    alike = len(good) - above - np.searchsorted(good, line, side="left") + 1
    return np.asarray((above + np.random.default_rng(seed).random(len(line)) * alike) / (len(good) + 1))


def unsmoothed(seen: Any, figure: float, share: float) -> float:
    return TRUE_SMOOTHED(seen, figure, 1.0)


def part_not_counted(seen: Any, figure: float, share: float) -> float:
    return min(1.0, TRUE_SMOOTHED(seen, figure, share) * (len(seen) + 1) / len(seen))


def tail_swapped(seen: Any, figure: float, share: float) -> float:
    return 1 - TRUE_SMOOTHED(seen, figure, share)


def twice(p_values: Any) -> Values:
    return TRUE_BETS(p_values) + math.log(2)


def only_stranger(p_values: Any) -> Values:
    bets = TRUE_BETS(p_values).copy()
    half = len(monitor._SHIFTS)
    bets[..., half : 2 * half] = bets[..., :half]
    bets[..., -2:] = 0.0
    return bets


def mean_square_forgotten(p_values: Any) -> Values:
    """Return gains ``exp(d z)``, without ``- d^2 / 2``."""
    bets = TRUE_BETS(p_values).copy()
    shifts = np.array(monitor._SHIFTS)
    bets[..., : 2 * len(shifts)] += np.concatenate([shifts, shifts]) ** 2 / 2
    return bets


def all_is_kept_back(part: int) -> float:
    return 0.0


def restart_forgets_draws(kept: Any) -> monitor.Monitor:
    restarted = TRUE_FROM_DICT(kept)
    restarted._draws = np.random.default_rng(restarted.seed)
    return restarted


def restart_forgets_stakes(kept: Any) -> monitor.Monitor:
    restarted = TRUE_FROM_DICT(kept)
    restarted._stakes[:] = monitor._log_stake(0)
    return restarted


def ties_forgotten(figures: Values, places: Places) -> Values:
    """Return distances as if equal figures were in order."""
    in_order = np.argsort(np.argsort(figures, axis=0, kind="stable"), axis=0, kind="stable")
    return TRUE_DISTANCES(in_order.astype(float), places)


def no_distances(figures: Values, places: Places) -> Values:
    return 0 * figures[places[:, 0]]


TRUE_EXCHANGED, TRUE_JOINTLY = permutation.exchanged, permutation.jointly
TRUE_DISTANCES = permutation.shape_distances
TRUE_TYPICALITY, TRUE_COMBINE = typicality.typicality_p_values, combination.combine_p_values
TRUE_SMOOTHED, TRUE_BETS = monitor._smoothed, monitor._log_bets
TRUE_FROM_DICT = monitor.Monitor.from_dict

FAR, SINGLE = "a_far_batch_gets_the_smallest_p_value", "a_single_part_is_ranked_by_hand"
RATE, RATES = "false_alarms_of_typicality_are_as_stated", "false_alarms_of_several_statistics_are_as_stated"
FORMULA, VALID = "rules_are_their_formulas", "rules_are_valid_where_p_values_conspire"
FAIR, SPREAD = "exchanged_batches_are_fair", "a_change_of_spread_is_seen"
RARE, DISTANCES = "false_alarms_of_the_monitor_are_rare", "distances_are_the_formula"
SIDES, VAIN = "either_side_is_seen", "nothing_is_named_in_vain"
COUNT, LAW = "online_p_values_are_counted_exactly", "online_p_values_are_independent_and_uniform"
BETS, CAPITAL = "no_bet_gains_on_average", "capital_stays_what_it_is_on_average"
RESTART, WORDS = "monitor_bets_as_stated", "words_say_what_moved"


def _of_batches() -> list[Fault]:
    planted: list[tuple[str, Plant, str]] = [
        (
            "the batch is not among them",
            everywhere("exchanged", without_itself),
            FAIR,
        ),
        ("bootstrapped from calibration parts", everywhere("exchanged", bootstrapped), RATE),
        ("neighbours only", everywhere("exchanged", neighbours), FAIR),
        ("one-sided", everywhere("two_sided", from_above), SIDES),
        ("smallest p-value not ranked, by its rate", everywhere("jointly", each_on_its_own), RATES),
        (
            "the smaller of two sides, not doubled, as if it were one p",
            everywhere("jointly", each_on_its_own),
            RATES,
        ),
        ("smallest p-value not ranked", everywhere("jointly", each_on_its_own), VAIN),
        ("the batch itself not counted", everywhere("jointly", itself_not_counted), FAR),
        ("ties dropped", everywhere("jointly", untied), RATES),
        (
            "distances forget ties",
            everywhere("shape_distances", ties_forgotten),
            DISTANCES,
        ),
        (
            "distances dropped",
            put(drift, "shape_distances", no_distances),
            SPREAD,
        ),
    ]
    return [Fault(f"exchange: {what}", plant, by) for what, plant, by in planted]


def _of_typicality() -> list[Fault]:
    planted: list[tuple[str, Any, str]] = [
        ("without +1", far_without_itself, FAR),
        ("entropy without the part", entropy_of_calibration, SINGLE),
        ("one-sided", only_too_strange, SIDES),
    ]
    return [
        Fault(f"typicality: {what}", put(typicality, "typicality_p_values", faulty), by)
        for what, faulty, by in planted
    ]


def _of_rules() -> list[Fault]:
    planted: list[tuple[str, Any, str]] = [
        ("mean not doubled", mean_alone, VALID),
        ("mean not doubled, by formula", mean_alone, FORMULA),
        ("harmonic mean", harmonic, VALID),
        ("smallest not multiplied", smallest_alone, VALID),
    ]
    return [
        Fault(f"combine: {what}", put(combination, "combine_p_values", faulty), by)
        for what, faulty, by in planted
    ]


def _of_the_monitor() -> list[Fault]:
    planted: list[tuple[str, Plant, str]] = [
        ("p-values share calibration parts", put(monitor, "online_p_values", without_the_line), LAW),
        (
            "p-values share calibration parts, by alarms",
            put(monitor, "online_p_values", without_the_line),
            RARE,
        ),
        ("not smoothed", put(monitor, "_smoothed", unsmoothed), LAW),
        ("n for n+1", put(monitor, "_smoothed", part_not_counted), COUNT),
        ("tail swapped", put(monitor, "_smoothed", tail_swapped), SIDES),
        ("twice the gain", put(monitor, "_log_bets", twice), BETS),
        ("twice the gain, by capital", put(monitor, "_log_bets", twice), CAPITAL),
        (
            "twice the gain, by alarms",
            put(monitor, "_log_bets", twice),
            RARE,
        ),
        ("d^2 / 2 forgotten", put(monitor, "_log_bets", mean_square_forgotten), BETS),
        ("one-sided", put(monitor, "_log_bets", only_stranger), SIDES),
        ("stakes from nowhere", put(monitor, "_log_kept_back", all_is_kept_back), CAPITAL),
        ("restart forgets draws", put(monitor.Monitor, "from_dict", restart_forgets_draws), RESTART),
        ("restart forgets stakes", put(monitor.Monitor, "from_dict", restart_forgets_stakes), RESTART),
    ]
    return [Fault(f"monitor: {what}", plant, by) for what, plant, by in planted]


def _of_words() -> list[Fault]:
    swapped = {name: (lower, higher) for name, (higher, lower) in drift._SENTENCES.items()}
    return [Fault("words: darker for brighter", put(drift, "_SENTENCES", swapped), WORDS)]


DRIFT_FAULTS: tuple[Fault, ...] = (
    *_of_batches(),
    *_of_typicality(),
    *_of_rules(),
    *_of_the_monitor(),
    *_of_words(),
)
