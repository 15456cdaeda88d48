"""Metrics against slow references that share no code with them, and the laws that they obey."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from differnet.evaluation import metrics
from differnet.evaluation.metrics import (
    MetricError,
    PixelCurves,
    aupr,
    by_kind,
    f1_oracle,
    fpr_at_tpr,
    image_auroc,
)
from differnet.records import DiffernetError

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Pictures = list[tuple[NDArray[np.floating], Booleans]]
Metric = Callable[[Floats, Booleans], float]

METRICS: tuple[Metric, ...] = (image_auroc, aupr, fpr_at_tpr, f1_oracle)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Floats, Booleans]:
    """Small whole numbers, so that ties are frequent, and at least one part of each class."""
    truth = [False, True, *draw(st.lists(st.booleans(), max_size=40))]
    values = draw(st.lists(st.integers(-6, 6), min_size=len(truth), max_size=len(truth)))
    return np.array(values, dtype=np.float64), np.array(truth)


@st.composite
def pictures(draw: st.DrawFn) -> Pictures:
    """A few small pictures with ties; one good and one defective pixel at least, some all good."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 30, 10**6]))
    made: Pictures = []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 8)), draw(st.integers(2, 8)))
        heat = rng.integers(levels, size=shape).astype(np.float32) / 7 - 3
        made.append((heat, rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5]))))
    made[0][1].flat[0], made[0][1].flat[1] = True, False
    return made


def curves_of(pairs: Pictures, bins: int = 2**20) -> PixelCurves:
    curves = PixelCurves(bins)
    for heat, mask in pairs:
        curves.add(heat, mask)
    return curves


def flattened(pairs: Pictures) -> tuple[Floats, Booleans]:
    heat = np.concatenate([heat.ravel() for heat, _ in pairs]).astype(np.float64)
    return heat, np.concatenate([mask.ravel() for _, mask in pairs])


def regions_by_flooding(mask: Booleans) -> list[Booleans]:
    """Grow 8-connected regions pixel by pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found: list[Booleans] = []
    while left:
        front = [left.pop()]
        region = np.zeros(mask.shape, dtype=bool)
        while front:
            y, x = front.pop()
            region[y, x] = True
            touching = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= touching
            front.extend(touching)
        found.append(region)
    return found


def aupro_by_brute_force(pairs: Pictures, max_fpr: float) -> float:
    """Walk through every threshold and add the trapezoids one by one."""
    heat, mask = flattened(pairs)
    regions = [(picture, region) for picture, truth in pairs for region in regions_by_flooding(truth)]
    area, before = 0.0, (0.0, 0.0)
    for threshold in sorted(set(heat.tolist()), reverse=True):
        rate = float((heat[~mask] >= threshold).mean())
        overlap = float(np.mean([(picture[region] >= threshold).mean() for picture, region in regions]))
        if rate >= max_fpr:
            share = (max_fpr - before[0]) / (rate - before[0]) if rate > max_fpr else 1.0
            rate, overlap = max_fpr, before[1] + share * (overlap - before[1])
        area += (rate - before[0]) * (overlap + before[1]) / 2
        before = (rate, overlap)
        # A vertical rise at the limit itself adds no area, so the walk may end.
        if rate >= max_fpr:
            break
    return area / max_fpr


def smooth_pictures(count: int, seed: int = 0) -> Pictures:
    """Noise with raised rectangles; every third picture is good."""
    rng = np.random.default_rng(seed)
    made: Pictures = []
    for number in range(count):
        mask = np.zeros((40, 50), dtype=bool)
        if number % 3:
            y, x = rng.integers(0, 30, size=2)
            mask[y : y + rng.integers(2, 10), x : x + rng.integers(2, 15)] = True
        made.append(((rng.normal(size=mask.shape) + 1.5 * mask).astype(np.float32), mask))
    return made


@given(parts())
def test_auroc_and_average_precision_agree_with_sklearn(some: tuple[Floats, Booleans]) -> None:
    values, truth = some
    assert image_auroc(values, truth) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert aupr(values, truth) == pytest.approx(average_precision_score(truth, values), abs=1e-12)


@given(parts())
def test_auroc_is_the_share_of_ordered_pairs(some: tuple[Floats, Booleans]) -> None:
    values, truth = some
    gaps = values[truth][:, np.newaxis] - values[~truth][np.newaxis, :]
    assert image_auroc(values, truth) == pytest.approx(((gaps > 0) + (gaps == 0) / 2).mean(), abs=1e-12)


@given(parts())
def test_thresholded_metrics_agree_with_trying_every_threshold(some: tuple[Floats, Booleans]) -> None:
    values, truth = some
    flagged = [values >= threshold for threshold in np.unique(values)]
    overkills = [flags[~truth].mean() for flags in flagged if flags[truth].mean() >= 0.95]
    f1s = [2 * (flags & truth).sum() / (flags.sum() + truth.sum()) for flags in flagged]
    assert fpr_at_tpr(values, truth) == pytest.approx(min(overkills), abs=1e-12)
    assert f1_oracle(values, truth) == pytest.approx(max(f1s), abs=1e-12)


@given(parts())
def test_only_the_order_of_strangeness_matters(some: tuple[Floats, Booleans]) -> None:
    values, truth = some
    for metric in METRICS:
        assert metric(np.exp(values) + values**3, truth) == metric(values, truth)


@given(parts())
def test_auroc_turns_round_when_strangeness_or_truth_does(some: tuple[Floats, Booleans]) -> None:
    values, truth = some
    assert image_auroc(-values, truth) == pytest.approx(1 - image_auroc(values, truth), abs=1e-12)
    assert image_auroc(values, ~truth) == pytest.approx(1 - image_auroc(values, truth), abs=1e-12)


@given(parts(), st.integers(0, 2**32 - 1))
def test_the_order_of_parts_does_not_matter(some: tuple[Floats, Booleans], seed: int) -> None:
    values, truth = some
    order = np.random.default_rng(seed).permutation(values.size)
    for metric in METRICS:
        assert metric(values[order], truth[order]) == metric(values, truth)


def test_perfect_and_blind_orders_have_their_known_values() -> None:
    truth = np.repeat([False, True], [30, 10])
    perfect, blind = truth.astype(float), np.zeros(40)
    assert [metric(perfect, truth) for metric in METRICS] == [1.0, 1.0, 0.0, 1.0]
    assert [metric(blind, truth) for metric in METRICS] == [0.5, 0.25, 1.0, 0.4]


def test_infinite_strangeness_is_the_strangest_of_all() -> None:
    assert image_auroc([0.0, 9e300, np.inf], [False, False, True]) == 1.0
    assert image_auroc([-np.inf, 0.0, np.inf], [True, False, True]) == 0.5


def test_the_share_to_catch_is_counted_in_whole_parts() -> None:
    # 0.95 of 20 defects are 19: the one below all good parts may escape.
    values = np.concatenate([[-1.0], np.arange(1.0, 20.0), np.full(5, 0.0)])
    truth = np.repeat([True, False], [20, 5])
    assert fpr_at_tpr(values, truth) == 0.0
    assert fpr_at_tpr(values, truth, tpr=0.951) == 1.0
    # 0.55 * 100 is 55.00000000000001 in floating point, and is 55 parts.
    values = np.concatenate([np.arange(100.0), [44.5]])
    truth = np.repeat([True, False], [100, 1])
    assert fpr_at_tpr(values, truth, tpr=0.55) == 0.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("values", "truth", "said"),
    [
        ([1.0, np.nan], [False, True], "1 NaN among 2"),
        ([1.0, None], [False, True], "1 NaN among 2"),
        ([1.0, 2.0], [True, True], "0 good and 2 defective"),
        ([1.0, 2.0], [False, False], "2 good and 0 defective"),
        ([], [], "0 good and 0 defective"),
        ([1.0, 2.0], [False], "shapes"),
        ([[1.0, 2.0]], [[False, True]], "shapes"),
        ([1.0, 2.0], [0, 2], "values such as"),
        ([1.0, 2.0], ["good", "crack"], "values such as"),
    ],
)
def test_what_has_no_metric_is_refused(
    metric: Callable[[object, object], float], values: object, truth: object, said: str
) -> None:
    with pytest.raises(MetricError, match=said):
        metric(values, truth)
    assert issubclass(MetricError, DiffernetError)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, np.nan])
def test_an_impossible_share_to_catch_is_refused(share: float) -> None:
    with pytest.raises(MetricError, match="tpr"):
        fpr_at_tpr([1.0, 2.0], [0, 1], tpr=share)


def test_each_kind_stands_against_all_good_parts_and_no_other_kind() -> None:
    values = [0.0, 2.0, 1.0, 3.0, 9.0, np.nan]
    labels = ["good", "good", "fray", "crack", "crack", None]
    found = by_kind(values, labels)
    assert found == {"crack": 1.0, "fray": 0.5}
    assert list(found) == ["crack", "fray"]
    assert by_kind([1.0, 2.0], ["good", "good"]) == {}
    assert by_kind([1.0, 2.0], ["ok", "crack"], good="ok") == {"crack": 1.0}


def test_kinds_without_good_parts_or_with_absent_values_are_refused() -> None:
    with pytest.raises(MetricError, match="0 good"):
        by_kind([1.0, 2.0], ["crack", "fray"])
    with pytest.raises(MetricError, match="NaN"):
        by_kind([1.0, np.nan], ["good", "fray"])
    with pytest.raises(MetricError, match="one strangeness for each of 2 labels"):
        by_kind([1.0], ["good", "fray"])


@given(pictures())
def test_pixel_metrics_are_exact_while_values_are_told_apart(pairs: Pictures) -> None:
    heat, mask = flattened(pairs)
    curves = curves_of(pairs)
    assert curves.pixel_auroc() == pytest.approx(roc_auc_score(mask, heat), abs=1e-12)
    assert curves.pixel_aupr() == pytest.approx(average_precision_score(mask, heat), abs=1e-12)
    assert set(curves.largest_errors().values()) == {0.0}


@given(pictures(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_aupro_agrees_with_trying_every_threshold(pairs: Pictures, max_fpr: float) -> None:
    held = curves_of(pairs).aupro(max_fpr)
    assert held == pytest.approx(aupro_by_brute_force(pairs, max_fpr), abs=1e-9)
    assert 0.0 <= held <= 1.0


@given(pictures(), st.sampled_from([2, 3, 7, 20]), st.sampled_from([0.05, 0.3, 1.0]))
def test_few_bins_err_by_no_more_than_they_say(pairs: Pictures, bins: int, max_fpr: float) -> None:
    heat, mask = flattened(pairs)
    curves = curves_of(pairs, bins)
    bounds = curves.largest_errors(max_fpr)
    rounding = 1e-9
    assert abs(curves.pixel_auroc() - roc_auc_score(mask, heat)) <= bounds["pixel_auroc"] + rounding
    assert abs(curves.pixel_aupr() - average_precision_score(mask, heat)) <= bounds["pixel_aupr"] + rounding
    true_aupro = aupro_by_brute_force(pairs, max_fpr)
    assert abs(curves.aupro(max_fpr) - true_aupro) <= bounds["aupro"] + rounding


@pytest.mark.parametrize(
    "spread",
    [
        lambda heat: heat,
        lambda heat: np.exp(3 * heat),
        lambda heat: 100 + heat / 100,
        lambda heat: np.maximum(heat, 0.0),
    ],
    ids=["normal", "heavy tail", "narrow", "half tied"],
)
def test_a_thirtieth_of_the_usual_bins_is_enough_for_four_digits(spread: Callable[[Floats], Floats]) -> None:
    pairs = [(spread(heat.astype(np.float64)).astype(np.float32), mask) for heat, mask in smooth_pictures(60)]
    exact, binned = curves_of(pairs), curves_of(pairs, 2**15)
    assert set(exact.largest_errors().values()) == {0.0}
    heat, mask = flattened(pairs)
    assert binned.pixel_auroc() == pytest.approx(roc_auc_score(mask, heat), abs=1e-4)
    assert binned.pixel_aupr() == pytest.approx(average_precision_score(mask, heat), abs=1e-4)
    assert binned.aupro() == pytest.approx(exact.aupro(), abs=1e-4)


def test_bins_are_bounded_and_a_lack_of_them_is_said() -> None:
    curves = curves_of(smooth_pictures(6), bins=100)
    bounds = curves.largest_errors()
    assert all(0.0 < bound < 1.0 for bound in bounds.values())
    assert curves._good.keys.size <= 100
    assert curves._good.pixels.sum() + curves._defective.pixels.sum() == 6 * 40 * 50


@given(pictures(), st.sampled_from([4, 2**20]), st.integers(0, 2**32 - 1))
def test_the_order_of_pictures_does_not_matter(pairs: Pictures, bins: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pairs))
    one, other = curves_of(pairs, bins), curves_of([pairs[place] for place in order], bins)
    assert other.pixel_auroc() == one.pixel_auroc()
    assert other.pixel_aupr() == one.pixel_aupr()
    assert other.aupro() == pytest.approx(one.aupro(), abs=1e-12)


@pytest.mark.parametrize("bins", [64, 2**20])
def test_when_pixels_are_sorted_does_not_matter(monkeypatch: pytest.MonkeyPatch, bins: int) -> None:
    pairs = smooth_pictures(9)
    at_once = curves_of(pairs, bins)
    monkeypatch.setattr(metrics, "PENDING_PIXELS", 1)
    one_by_one = PixelCurves(bins)
    for heat, mask in pairs:
        one_by_one.add(heat, mask)
        assert not one_by_one._pending
    assert one_by_one.pixel_auroc() == at_once.pixel_auroc()
    assert one_by_one.pixel_aupr() == at_once.pixel_aupr()
    assert one_by_one.aupro() == pytest.approx(at_once.aupro(), abs=1e-12)


def test_metrics_may_be_read_between_pictures() -> None:
    pairs = smooth_pictures(6)
    curves = curves_of(pairs[:3])
    assert curves.aupro() == curves_of(pairs[:3]).aupro()
    for heat, mask in pairs[3:]:
        curves.add(heat, mask)
    assert curves.aupro() == pytest.approx(curves_of(pairs).aupro(), abs=1e-12)


@given(pictures())
def test_a_perfect_map_has_all_metrics_at_one_and_its_negative_at_nought(pairs: Pictures) -> None:
    perfect = curves_of([(mask.astype(np.float32), mask) for _, mask in pairs])
    assert perfect.pixel_auroc() == 1.0
    assert perfect.pixel_aupr() == 1.0
    assert perfect.aupro() == pytest.approx(1.0, abs=1e-12)
    inverted = curves_of([(-mask.astype(np.float32), mask) for _, mask in pairs])
    assert (inverted.pixel_auroc(), inverted.aupro()) == (0.0, 0.0)


def test_a_blind_map_reaches_half_the_limit() -> None:
    pairs = [(np.ones_like(heat), mask) for heat, mask in smooth_pictures(6)]
    assert curves_of(pairs).aupro(0.3) == pytest.approx(0.15, abs=1e-12)
    assert curves_of(pairs).pixel_auroc() == 0.5


def test_small_regions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, 0] = mask[4:8, 4:8] = True
    heat = np.zeros((10, 10))
    heat[0, 0] = 1.0
    # The one-pixel region is found before any good pixel, the other never before the last.
    assert curves_of([(heat, mask)]).aupro(0.3) == pytest.approx(0.5 + 0.5 * 0.15, abs=1e-12)


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[1, 2] = True
    mask[4, 4] = True
    heat = np.zeros((6, 6))
    heat[0, 0] = 1.0
    # One pixel of three in one of two regions: 1/6 at rate 0, rising straight to 1 at rate 1.
    assert curves_of([(heat, mask)]).aupro(0.3) == pytest.approx(1 / 6 + 5 / 6 * 0.15, abs=1e-12)


def test_good_pictures_lower_the_false_positive_rate() -> None:
    heat, mask = smooth_pictures(2)[1]
    alone = curves_of([(heat, mask)])
    quiet = np.full((40, 50), -9.0, dtype=np.float32)
    with_good = curves_of([(heat, mask), (quiet, np.zeros((40, 50), dtype=bool))])
    assert with_good.aupro() > alone.aupro()
    assert with_good.pixel_auroc() > alone.pixel_auroc()


def test_negative_zero_ties_with_zero_and_signs_are_ordered() -> None:
    mask = np.array([[True, False]])
    assert curves_of([(np.array([[0.0, -0.0]]), mask)]).pixel_auroc() == 0.5
    assert curves_of([(np.array([[-1.0, -2.0]]), mask)]).pixel_auroc() == 1.0
    assert curves_of([(np.array([[1e-40, -1e-40]]), mask)]).pixel_auroc() == 1.0


def test_without_good_or_defective_pixels_there_is_no_pixel_metric() -> None:
    heat = np.zeros((3, 3))
    none = PixelCurves()
    only_good = curves_of([(heat, np.zeros((3, 3), dtype=bool))])
    only_defective = curves_of([(heat, np.ones((3, 3), dtype=bool))])
    for curves in (none, only_good, only_defective):
        for metric in (curves.pixel_auroc, curves.pixel_aupr, curves.aupro, curves.largest_errors):
            with pytest.raises(MetricError, match="good and defective pixels"):
                metric()


@pytest.mark.parametrize(
    ("heat", "mask", "said"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), dtype=bool), "shapes"),
        (np.zeros(4), np.zeros(4, dtype=bool), "shapes"),
        (np.zeros((2, 2)), np.full((2, 2), 255, dtype=np.uint8), "mask of uint8"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), dtype=bool), "4 that are not"),
        (np.array([[0.0, np.inf]]), np.zeros((1, 2), dtype=bool), "1 that are not"),
        (np.array([[0.0, 1e300]]), np.zeros((1, 2), dtype=bool), "1 that are not"),
    ],
)
def test_an_unsound_picture_is_refused_and_not_counted(heat: Floats, mask: Booleans, said: str) -> None:
    pairs = smooth_pictures(2)
    curves = curves_of(pairs)
    with pytest.raises(MetricError, match=said):
        curves.add(heat, mask)
    assert curves.aupro() == curves_of(pairs).aupro()


@pytest.mark.parametrize("limit", [0.0, -0.3, 1.01, np.nan])
def test_an_impossible_limit_is_refused(limit: float) -> None:
    with pytest.raises(MetricError, match="max_fpr"):
        curves_of(smooth_pictures(2)).aupro(limit)


def test_a_single_bin_is_refused() -> None:
    with pytest.raises(MetricError, match="at least 2 bins"):
        PixelCurves(bins=1)
