"""Layers, tables and sentences of an explanation say what is in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from differnet.detection import (
    POOLED,
    EvidenceMap,
    Explanation,
    PatchChange,
    Reference,
    RoundTrip,
    Statistic,
    WholeChange,
)
from differnet.records import Record, Verdict
from differnet.reporting.browsing import other_inspections, reviews_table
from differnet.reporting.explained import (
    CHANGE_SCALE,
    badge_words,
    change_layer,
    change_words,
    changes_table,
    evidence_layers,
    nearest_words,
    statistics_table,
    whole_shares_table,
)
from differnet.store import CalibrationEntry, ModelEntry, ReviewEntry, RunEntry, Store

MakeRecord = Callable[..., Record]
SOUND = RoundTrip(1284, 0, 1e-6, 2e-6, 3e-6)


@pytest.fixture
def explanation(make_record: MakeRecord) -> Explanation:
    fine, coarse = np.zeros((8, 8), np.float32), np.zeros((4, 4), np.float32)
    fine[2, 3], coarse[1, 1] = 0.9, 0.4
    shares = np.zeros((3, 6))
    shares[2, 1] = 1.0
    return Explanation(
        record=make_record(1, Verdict.DEFECT, strangeness=6.5),
        maps=(
            EvidenceMap("patches", "fine", 0, (8,), 7 * fine, 0.5),
            EvidenceMap("patches", "coarse", 0, (16,), 5 * coarse, 0.5),
            EvidenceMap("whole", "whole", 0, (8,), 3 * fine, 0.25),
            EvidenceMap("whole", "whole 2", 1, (8,), fine, 0.0),
        ),
        statistics=(
            Statistic("all", "", "together", 6.5, 0.005),
            Statistic("whole", "whole", "typicality", 1.25, 0.04),
            Statistic("whole", "whole 2", "typicality", 0.2, 0.6),
            Statistic("patches", "fine", "improbability", 7.1, None),
        ),
        change=fine,
        patches=(PatchChange("fine", fine, 1 / 64, 0.75), PatchChange("coarse", coarse, 1 / 16, 0.25)),
        wholes=(
            WholeChange("whole", 0.0, (8, 16, 32), 0 * shares),
            WholeChange("w", 0.4, (8, 16, 32), shares),
        ),
        strangeness_after=0.61,
        round_trip=SOUND,
        nearest=Reference("ab" * 32, b"", 1.34),
    )


def test_layers_are_the_maps_on_one_scale_and_the_change_on_its_own(explanation: Explanation) -> None:
    layers = evidence_layers(explanation, (2.0, 9.0))
    assert [layer.name for layer in layers] == [
        "Patches, fine: 8 \u00d7 8 places",
        "Patches, coarse: 4 \u00d7 4 places",
        "Whole part",
        "Whole part, closer look 1",
    ]
    for layer, one in zip(layers, explanation.maps, strict=True):
        assert layer.values is one.heat
        assert layer.scale == (2.0, 9.0)
        assert f"It counts {one.weight:.0%}" in layer.words
        assert "one place in 100 of good parts" in layer.words
    change = change_layer(explanation)
    assert change.values is explanation.change
    assert change.scale == CHANGE_SCALE


def test_every_statistic_has_its_row(explanation: Explanation) -> None:
    table = statistics_table(explanation)
    assert table["evidence"].tolist() == [
        "all evidence",
        "the whole part",
        "the whole part, closer look",
        "patches, fine",
    ]
    assert table["strangeness"].tolist() == [6.5, 1.25, 0.2, 7.1]
    assert table["p-value"].iloc[:3].tolist() == [0.005, 0.04, 0.6]
    assert math.isnan(float(table["p-value"].iloc[3]))
    assert table["meaning"].str.len().min() > 10


def test_changes_are_in_percent_and_standard_deviations(explanation: Explanation) -> None:
    table = changes_table(explanation)
    assert table["patches"].tolist() == ["fine", "coarse"]
    assert table["places that move"].tolist() == [100 / 64, 100 / 16]
    assert table["share of the change"].tolist() == [75.0, 25.0]
    assert table["largest change"].tolist() == pytest.approx([0.9, 0.4])
    shares = whole_shares_table(explanation)
    assert shares is not None
    assert shares.columns.tolist() == list(POOLED)
    assert shares.loc["every 32 px", "spread"] == 100.0
    assert shares.to_numpy().sum() == 100.0
    typical = replace(explanation, wholes=explanation.wholes[:1])
    assert whole_shares_table(typical) is None


def test_how_much_would_have_to_change_is_said(explanation: Explanation) -> None:
    assert change_words(explanation) == (
        "1.6% of the fine patches would have to move to be typical, and the whole part by 0.40 standard "
        "deviations. Its strangeness would then be 0.61 in place of 6.50."
    )
    still = tuple(one._replace(moved=0.0, share=0.0, change=0 * one.change) for one in explanation.patches)
    assert change_words(replace(explanation, patches=still)).startswith(
        "No patch would have to move, and the whole part by 0.40"
    )
    typical = replace(explanation, patches=still, wholes=explanation.wholes[:1])
    assert change_words(typical).startswith("Nothing")
    unknown = replace(explanation, strangeness_after=math.nan)
    assert "nan" not in change_words(unknown)


def test_the_badge_says_whether_and_why(explanation: Explanation) -> None:
    assert badge_words(SOUND) == (
        "The way back is sound here: of 1,284 features the largest relative error of "
        "x \u2192 z \u2192 x is 3e-06."
    )
    for broken, told in (
        (replace(SOUND, not_finite=3), "3 of 1,284 features do not come back"),
        (replace(SOUND, moved_error=0.02), "up to 2e-02"),
        (replace(SOUND, median_error=1e-4), "1e-04 in the middle"),
        (replace(SOUND, largest_error=math.nan), "up to nan"),
    ):
        assert badge_words(broken).startswith("Not to be trusted: ")
        assert told in badge_words(broken)
        assert "The verdict does not rest on the way back" in badge_words(broken)


def test_the_nearest_good_part_is_told_or_missed(explanation: Explanation) -> None:
    assert "1.3 standard deviations away" in nearest_words(explanation)
    assert "keeps no good parts" in nearest_words(replace(explanation, nearest=None))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    opened.add_model(ModelEntry("m", "flange"))
    opened.add_calibration(CalibrationEntry("m", "c", 99))
    for run in ("a", "b", "c"):
        opened.begin_run(RunEntry(run, "flange", "m", "c", 1.3, 2.0))
    yield opened
    opened.close()


def test_other_inspections_are_of_the_part_and_not_of_its_namesakes(
    store: Store, make_record: MakeRecord
) -> None:
    known = {"model_id": "m", "calibration_id": "c", "part_id": "001"}

    def kept(number: int, run_id: str, path: str, sha256: str, **changes: object) -> Record:
        told = known | {"run_id": run_id, "path": path, "sha256": sha256} | changes
        record = make_record(number, Verdict.PASS, processed_at=f"2026-01-0{number}T00:00:00Z", **told)
        store.add_items([record])
        return record

    first = kept(1, "a", "dent/001.png", "aa")
    again = kept(2, "b", "dent/001.png", "aa")
    replaced = kept(3, "c", "dent/001.png", "bb")
    kept(4, "a", "good/001.png", "cc")
    copied = kept(5, "b", "copy/x.png", "aa", part_id="x")
    assert other_inspections(store, first, 9) == [copied, replaced, again]
    assert other_inspections(store, first, 1) == [copied]
    # A part id that somebody gave is of the part, wherever its pictures lie.
    serial = kept(6, "a", "monday/7.png", "dd", part_id="SN-42")
    later = kept(7, "b", "tuesday/9.png", "ee", part_id="SN-42")
    assert other_inspections(store, serial, 9) == [later]
    assert other_inspections(store, make_record(9, Verdict.INVALID, part_id="", sha256="", path=""), 9) == []


def test_what_people_said_keeps_its_order_and_its_signs() -> None:
    said = [
        ReviewEntry("unsure", "ada\u202e", note="<b>", made_at="2026-01-01T10:00:00.000+00:00"),
        ReviewEntry("defect", "bo", "dent", made_at="2026-01-02T10:00:00.000+00:00"),
    ]
    table = reviews_table(said)
    assert table["who"].tolist() == ["ada\\u202e", "bo"]
    assert table["when"].tolist() == ["2026-01-01 10:00:00", "2026-01-02 10:00:00"]
    assert table["note"].tolist() == ["<b>", ""]
    assert reviews_table([]).columns.tolist() == table.columns.tolist()
