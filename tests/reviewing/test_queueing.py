"""Which parts a person looks at, in which order, and what a sample tells."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from differnet.records import Verdict
from differnet.reporting.counts import VERDICTS
from differnet.reporting.gallery_query import GalleryQuery, Order
from differnet.reviewing import ReviewError
from differnet.reviewing.queueing import (
    LARGEST_SAMPLE,
    QueueOrder,
    QueueWish,
    Source,
    draw_sample,
    estimates,
    following,
    queue_places,
    settled,
)
from differnet.store import ReviewEntry, RunTable, Said

Columns = dict[str, Any]
PASS, REVIEW, DEFECT, OOD, INVALID = range(5)


def table_of(count: int, seed: int = 0, **changes: Any) -> RunTable:
    """Make a run at T1 1.3 and T2 2, of which nobody has said anything."""
    rng = np.random.default_rng(seed)
    strangeness = rng.exponential(0.8, count)
    names = np.array([f"i{number:05d}" for number in range(count)], dtype=object)
    known: Columns = {field.name: np.full(count, np.nan) for field in fields(RunTable)}
    known |= {"run_id": "r", "changed": 1, "inspected": 1, "item_id": names, "part_id": names}
    known |= {name: np.full(count, None, dtype=object) for name in ("label", "captured_at")}
    known |= {"product": np.full(count, "flange", dtype=object), "kind": np.full(count, "", dtype=object)}
    known |= {"processed_at": np.full(count, "2026", dtype=object), "strangeness": strangeness}
    known |= {"verdict": np.digitize(strangeness, [1.3, 2.0]).astype(np.int8)}
    known |= {"t_review": np.full(count, 1.3), "t_defect": np.full(count, 2.0)}
    known |= {"judgement": np.full(count, -1, dtype=np.int8)}
    return RunTable(**(known | changes))


def word(item_id: str, judgement: str, author: str, **changes: Any) -> Said:
    entry = ReviewEntry(judgement, author, made_at="1")  # type: ignore[arg-type]
    told: Columns = {"run_id": "r", "item_id": item_id, "part_id": item_id, "sha256": item_id, "label": None}
    told |= {"product": "flange", "verdict": Verdict.PASS, "strangeness": 0.1, "entry": entry}
    return Said(**(told | changes))


def test_the_band_holds_what_is_reviewed_and_of_which_nobody_has_said_anything() -> None:
    table = table_of(400)
    reviewed = np.flatnonzero(table.verdict == REVIEW)
    table.judgement[reviewed[:3]] = (0, 1, 2)
    places = queue_places(QueueWish(), table)
    assert set(places) == set(reviewed[3:])
    assert set(queue_places(QueueWish(again=True), table)) == set(reviewed)
    told = table.strangeness[places]
    assert list(told) == sorted(told, reverse=True)


def test_rejected_parts_are_defects_and_wrong_inputs() -> None:
    table = table_of(6, verdict=np.array([PASS, REVIEW, DEFECT, OOD, INVALID, DEFECT], dtype=np.int8))
    assert set(queue_places(QueueWish(Source.FLAGGED), table)) == {2, 3, 5}


def test_label_and_verdict_disagree_on_overkill_and_escapes_alone() -> None:
    labels = np.array(
        ["good", "good", "dent", "dent", "wrong_input/blank", None, "good", "dent"], dtype=object
    )
    verdict = np.array([DEFECT, PASS, PASS, DEFECT, PASS, PASS, OOD, REVIEW], dtype=np.int8)
    table = table_of(8, label=labels, verdict=verdict)
    assert set(queue_places(QueueWish(Source.DISAGREEMENT), table)) == {0, 2, 6}


def test_nearest_is_to_either_threshold_and_what_has_no_figure_comes_last() -> None:
    figures = np.array([1.31, 1.65, 1.98, np.nan, 1.35])
    table = table_of(5, strangeness=figures, verdict=np.full(5, REVIEW, dtype=np.int8))
    assert list(queue_places(QueueWish(order=QueueOrder.NEAREST), table)) == [0, 2, 4, 1, 3]
    assert list(queue_places(QueueWish(order=QueueOrder.STRANGEST), table)) == [2, 1, 4, 0, 3]
    assert list(queue_places(QueueWish(order=QueueOrder.FILE), table)) == [0, 1, 2, 3, 4]
    lots = [list(queue_places(QueueWish(order=QueueOrder.LOT, seed=seed), table)) for seed in range(20)]
    assert all(sorted(lot) == [0, 1, 2, 3, 4] for lot in lots)
    assert len(set(map(tuple, lots))) > 10


def test_what_the_gallery_shows_can_be_queued_in_its_order() -> None:
    table = table_of(50)
    table.judgement[4] = 0
    query = GalleryQuery(least=1.0, order=Order.LEAST_STRANGE)
    places = queue_places(QueueWish(Source.CHOSEN, QueueOrder.STRANGEST, chosen=query), table)
    wanted = [i for i in np.argsort(table.strangeness) if table.strangeness[i] >= 1.0 and i != 4]
    assert list(places) == wanted


def test_a_second_look_is_at_what_others_judged_and_oneself_did_not() -> None:
    table = table_of(5)
    said = [word("i00000", "good", "ada"), word("i00001", "good", "bea"), word("i00002", "good", "ada")]
    said += [word("i00002", "defect", "bea")]
    wish = QueueWish(Source.SECOND, person="bea")
    assert list(queue_places(wish, table, said)) == [0]
    assert set(queue_places(QueueWish(Source.SECOND, person="cem"), table, said)) == {0, 1, 2}
    with pytest.raises(ReviewError, match="who looks"):
        QueueWish(Source.SECOND)


def test_a_sample_mixes_both_sides_so_that_the_place_tells_no_verdict() -> None:
    table = table_of(3000)
    places = queue_places(QueueWish(Source.SAMPLE, seed=3, passed=60, rejected=60), table)
    sides = table.verdict[places] == PASS
    assert (len(places), sides.sum()) == (120, 60)
    # By lot a side changes about 60 times, with a standard deviation of 5.5.
    assert 38 < np.count_nonzero(np.diff(sides.astype(int))) < 82
    sample = draw_sample(table, 3, 60, 60)
    # Whoever stops halfway has looked at the first of either lot.
    assert list(places[sides]) == list(sample.passed)
    assert list(places[~sides]) == list(sample.rejected)


def test_a_sample_stays_the_same_while_a_run_grows_but_for_what_new_parts_push_out() -> None:
    large = table_of(2000)
    part: Columns = {f.name: getattr(large, f.name) for f in fields(RunTable)}
    cut: Columns = {n: v[:1500] if isinstance(v, np.ndarray) else v for n, v in part.items()}
    small = RunTable(**cut)
    before, after = (draw_sample(table, 7, 100, 100) for table in (small, large))
    assert list(before.passed) == list(draw_sample(small, 7, 100, 100).passed)
    kept = set(before.passed) & set(after.passed)
    assert len(kept) > 55
    assert all(place >= 1500 for place in set(after.passed) - kept)
    assert list(draw_sample(large, 8, 100, 100).passed) != list(after.passed)


def test_a_sample_takes_no_heed_of_what_has_a_word_already() -> None:
    table = table_of(500)
    before = draw_sample(table, 1, 40, 40)
    table.judgement[before.passed[::2]] = 0
    after = draw_sample(table, 1, 40, 40)
    assert list(after.passed) == list(before.passed)
    assert (after.passed_of, after.rejected_of) == (
        (table.verdict == PASS).sum(),
        (table.verdict == DEFECT).sum(),
    )
    escapes, _ = estimates(after, table)
    assert (escapes.left, escapes.wrong.of, escapes.skipped) == (20, 20, 19)


def test_samples_tell_the_true_rates_without_bias_and_their_intervals_hold() -> None:
    table = table_of(4000)
    rng = np.random.default_rng(11)
    defective = np.where(table.verdict == PASS, rng.random(4000) < 0.03, rng.random(4000) < 0.7)
    truth = {
        "escape": defective[table.verdict == PASS].mean(),
        "overkill": (~defective)[table.verdict == DEFECT].mean(),
    }
    found: dict[str, list[float]] = {"escape": [], "overkill": []}
    held = dict.fromkeys(found, 0)
    draws = 300
    for seed in range(draws):
        sample = draw_sample(table, seed, 100, 100)
        table.judgement[:] = -1
        drawn = np.concatenate([sample.passed, sample.rejected])
        table.judgement[drawn] = defective[drawn]
        for name, told in zip(found, estimates(sample, table), strict=True):
            assert (told.left, told.skipped, told.wrong.of) == (0, 0, 100)
            assert told.wrong.share is not None
            found[name].append(told.wrong.share)
            held[name] += told.wrong.low <= truth[name] <= told.wrong.high
    for name, shares in found.items():
        error = np.std(shares) / np.sqrt(draws)
        assert abs(np.mean(shares) - truth[name]) <= 4 * error
        # Clopper-Pearson holds at least as often as it says.
        assert held[name] / draws >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)


def test_an_estimate_counts_unsure_and_left_out_parts_apart() -> None:
    table = table_of(300)
    sample = draw_sample(table, 2, 10, 10)
    table.judgement[sample.passed[:6]] = (0, 1, 2, -1, 0, 0)
    escapes, overkill = estimates(sample, table)
    assert (escapes.wrong.events, escapes.wrong.of) == (1, 4)
    assert (escapes.unsure, escapes.skipped, escapes.left, escapes.drawn) == (1, 1, 5, 10)
    low, high = escapes.in_all
    assert 0 <= low <= 0.25 * escapes.of <= high <= escapes.of
    assert (overkill.wrong.share, overkill.left) == (None, 10)


def test_an_estimate_of_nothing_promises_nothing() -> None:
    table = table_of(3, verdict=np.full(3, REVIEW, dtype=np.int8))
    for told in estimates(draw_sample(table, 0, 10, 10), table):
        assert (told.drawn, told.of, told.wrong.share, told.in_all) == (0, 0, None, (0, 0))


@pytest.mark.parametrize("changes", [{"passed": -1}, {"rejected": LARGEST_SAMPLE + 1}, {"seed": -1}])
def test_a_senseless_sample_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ReviewError, match="samples of"):
        QueueWish(Source.SAMPLE, **changes)  # type: ignore[arg-type]


def test_what_another_has_judged_needs_no_look_but_a_second_one_does() -> None:
    table = table_of(5)
    table.judgement[:2] = (0, 2)
    said = [word("i00000", "good", "ada"), word("i00001", "unsure", "bea")]
    for source in set(Source) - {Source.SECOND}:
        assert settled(QueueWish(source), table, said, ["i00004"]) == {"i00000", "i00001"}
    assert settled(QueueWish(Source.SECOND, person="bea"), table, said) == {"i00001"}
    assert settled(QueueWish(again=True), table, said, ["i00004"]) == {"i00004"}
    # Whatever has a word counts in a sample.
    assert settled(QueueWish(Source.SAMPLE, again=True), table, said) == {"i00000", "i00001"}


def test_the_next_part_is_the_first_after_here_that_needs_a_look() -> None:
    ids = ["a", "b", "c", "d"]
    assert following(ids, None, ()) == "a"
    assert following(ids, "gone", {"a"}) == "b"
    assert following(ids, "b", {"c", "d", "a"}) == "b"
    assert following([], None, ()) is None


@pytest.mark.parametrize("source", Source)
def test_every_queue_of_an_empty_run_is_empty(source: Source) -> None:
    empty = table_of(0)
    assert len(queue_places(QueueWish(source, person="ada"), empty)) == 0
    assert source.words
    assert source.meaning.endswith(".")


def test_verdicts_are_counted_in_the_order_of_the_table() -> None:
    assert [VERDICTS[code] for code in (PASS, REVIEW, DEFECT, OOD, INVALID)] == list(Verdict)
