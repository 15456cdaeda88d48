"""What two thresholds do, against counting part by part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from differnet.calibration import p_values, share_of_good
from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS, Columns, Truth
from differnet.tuning import Parts, by_kind, changed_verdicts, expect, flips, move
from tuning.conftest import DrawParts

thresholds = st.tuples(st.floats(0, 6), st.floats(0, 6)).map(lambda pair: (min(pair), max(pair)))
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def judged(parts: Parts, row: int, t_review: float, t_defect: float) -> Verdict:
    """Judge one part as a person would."""
    columns = parts.columns
    if columns.fixed[row] >= 0:
        return VERDICTS[int(columns.fixed[row])]
    strangeness = columns.strangeness[row]
    if not np.isfinite(strangeness):
        return Verdict.INVALID
    if strangeness >= t_defect:
        return Verdict.DEFECT
    if strangeness >= t_review or columns.doubted[row]:
        return Verdict.REVIEW
    return Verdict.PASS


def share(events: int, of: int) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson by another library's name for it."""
    found = stats.binomtest(events, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def unlabelled(strangeness: NDArray[np.float64]) -> Parts:
    """Parts of which nothing is known but how strange they are."""
    number = len(strangeness)
    columns = Columns(
        strangeness,
        np.full(number, Truth.UNLABELLED, dtype=np.int8),
        np.full(number, -1, dtype=np.int8),
        np.zeros(number, dtype=bool),
        np.full(number, np.nan),
    )
    return Parts(columns, (), np.full(number, -1, dtype=np.int32))


@relaxed
@given(pair=thresholds, seed=st.integers(0, 30))
def test_every_figure_is_what_counting_part_by_part_gives(
    draw_parts: DrawParts, pair: tuple[float, float], seed: int
) -> None:
    parts = draw_parts(80, seed)
    moved = move(parts, *pair)
    told = [judged(parts, row, *pair) for row in range(80)]
    truth = [Truth(int(of)) for of in parts.columns.truth]
    assert [VERDICTS[code] for code in moved.codes] == told
    both = list(zip(truth, told, strict=True))
    for group in Truth:
        assert moved.counts.table[group].tolist() == [both.count((group, verdict)) for verdict in VERDICTS]
    rejected = [of for of, verdict in both if verdict in (Verdict.DEFECT, Verdict.OOD)]
    known = [of for of in rejected if of is not Truth.UNLABELLED]
    defects = [verdict for of, verdict in both if of is Truth.DEFECT and verdict is not Verdict.INVALID]
    caught = [verdict for verdict in defects if verdict is not Verdict.PASS]
    assert (moved.precision.events, moved.precision.of) == (
        sum(of is not Truth.GOOD for of in known),
        len(known),
    )
    assert (moved.recall.events, moved.recall.of) == (len(caught), len(defects))
    assert moved.recall.events + moved.counts.escape.events == moved.recall.of == moved.counts.escape.of
    for rate in (moved.precision, moved.recall, moved.counts.overkill, moved.counts.escape):
        if rate.of:
            assert (rate.low, rate.high) == pytest.approx(share(rate.events, rate.of), abs=1e-9)


@relaxed
@given(before=thresholds, after=thresholds, seed=st.integers(0, 30))
def test_what_flips_is_told_once_and_rightly(
    draw_parts: DrawParts, before: tuple[float, float], after: tuple[float, float], seed: int
) -> None:
    parts = draw_parts(80, seed)
    found = flips(parts.columns, before, after)
    pairs = {row: (flip.before, flip.after) for flip in found for row in flip.rows.tolist()}
    assert len(pairs) == sum(len(flip.rows) for flip in found)
    for row in range(80):
        old, new = judged(parts, row, *before), judged(parts, row, *after)
        assert pairs.get(row, (old, old)) == (old, new)
    sizes = [len(flip.rows) for flip in found]
    assert sizes == sorted(sizes, reverse=True)
    for flip in found:
        strangeness = parts.columns.strangeness[flip.rows]
        assert (np.diff(strangeness) <= 0).all()
        assert flip.of.sum() == len(flip.rows)
        assert flip.of[Truth.GOOD] == (parts.columns.truth[flip.rows] == Truth.GOOD).sum()
        assert flip.before not in (Verdict.OOD, Verdict.INVALID)


def test_the_same_thresholds_flip_nothing(draw_parts: DrawParts) -> None:
    parts = draw_parts()
    moved = move(parts, 1.0, 2.0)
    assert flips(parts.columns, (1.0, 2.0), (1.0, 2.0)) == ()
    assert changed_verdicts(parts.columns, moved.codes, moved.codes) == ()


def test_thresholds_that_are_none_are_refused(draw_parts: DrawParts) -> None:
    for pair in ((2.0, 1.0), (np.nan, 1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="finite"):
            move(draw_parts(), *pair)


def test_kinds_are_counted_the_one_that_passes_most_first(draw_parts: DrawParts) -> None:
    parts = draw_parts(500, 3)
    moved = move(parts, 0.8, 2.0)
    rows = by_kind(parts, moved.codes)
    assert {row.kind for row in rows} == set(parts.kinds)
    for row in rows:
        of = parts.kind == parts.kinds.index(row.kind)
        told = [VERDICTS[code] for code in moved.codes[of]]
        assert row.counts.tolist() == [told.count(verdict) for verdict in VERDICTS]
        seen = len(told) - told.count(Verdict.INVALID)
        assert (row.caught.events, row.caught.of) == (seen - told.count(Verdict.PASS), seen)
    passed = [row.counts[0] for row in rows]
    assert passed == sorted(passed, reverse=True)
    assert passed[0] > 0


@pytest.mark.parametrize("pair", [(0.0, 0.0), (0.0, 2.0), (1.3, 2.0), (5.0, 60.0)])
def test_what_calibration_expects_needs_no_label(draw_parts: DrawParts, pair: tuple[float, float]) -> None:
    parts, good = draw_parts(400, labelled=False), np.random.default_rng(1).exponential(0.43, 150)
    found = expect(good, parts, *pair)
    assert (found.reviewed.events, found.reviewed.of) == ((good >= pair[0]).sum(), 150)
    assert (found.rejected.events, found.rejected.of) == ((good >= pair[1]).sum(), 150)
    assert [found.p_review, found.p_defect] == pytest.approx(p_values(good, pair).tolist())
    batch = parts.columns.strangeness[np.isfinite(parts.columns.strangeness)]
    assert found.flagged == (batch >= pair[0]).sum()
    assert 0 <= found.good_flagged <= found.flagged
    if pair[0] == 0:
        # Everything is flagged: as many good parts as there are.
        expected = min(len(batch), share_of_good(p_values(good, batch)) * len(batch))
        assert found.good_flagged == pytest.approx(expected)
        assert found.most_good_flagged == found.flagged == len(batch)
    assert found.most_good_flagged <= found.flagged


def test_the_expected_number_of_good_parts_is_near_the_true_one() -> None:
    """Over 60 batches: the estimate is a mean, and its bound is broken no more often than one time in 20."""
    rng, differences, broken = np.random.default_rng(4), [], 0
    for _ in range(60):
        good = rng.exponential(0.43, 300)
        usual, faulty = rng.exponential(0.43, 450), rng.exponential(0.43, 50) + 4
        parts = unlabelled(np.concatenate([usual, faulty]))
        found = expect(good, parts, 1.3, 2.0)
        true = int((usual >= 1.3).sum())
        differences.append(found.good_flagged - true)
        broken += true > found.most_good_flagged
    # Four standard errors; some twenty good parts are flagged each time.
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(60) + 1
    assert broken <= 3 + 4 * np.sqrt(60 * 0.05 * 0.95)
