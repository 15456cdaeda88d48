"""The small drawing of one part's strangeness."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from differnet.records import Record, Verdict
from differnet.reporting.gauge import gauge

MakeRecord = Callable[..., Record]
DIAMOND, ARROW = "\N{BLACK DIAMOND}", "\N{BLACK RIGHT-POINTING TRIANGLE}"


def places(drawn: str) -> dict[str, float]:
    """Read where T1, T2, the mark and the labels stand."""
    found: dict[str, float] = {}
    for box in ElementTree.fromstring(drawn).iter("div"):
        style = box.get("style", "")
        at = re.search(r"left:([\d.]+)%", style)
        if at is not None and "border-left" in style:
            found["T1 rule" if "dashed" in style else "T2 rule"] = float(at[1])
        elif at is not None and box.text:
            found[box.text if box.text in (DIAMOND, ARROW) else box.text.split()[0]] = float(at[1])
    return found


@pytest.mark.parametrize("strangeness", [0.0, 0.4, 1.301, 1.7, 2.0, 4.0, 9.9])
def test_the_mark_stands_on_the_side_of_the_thresholds_that_the_verdict_says(
    make_record: MakeRecord, strangeness: float
) -> None:
    drawn = str(gauge(make_record(1, Verdict.REVIEW, strangeness=strangeness)))
    at = places(drawn)
    assert at["T1 rule"] < at["T2 rule"]
    assert (at[DIAMOND] >= at["T1 rule"]) is (strangeness >= 1.301)
    assert (at[DIAMOND] >= at["T2 rule"]) is (strangeness >= 2.0)
    assert 0 <= at[DIAMOND] <= 100
    assert abs(at["T1"] - at["T1 rule"]) <= 18
    assert abs(at["T2"] - at["T2 rule"]) <= 18
    assert f'aria-label="strangeness {strangeness:.2f}, T1 1.30, T2 2.00"' in drawn


def test_beyond_its_range_the_mark_is_an_arrow_at_the_end(make_record: MakeRecord) -> None:
    at = places(str(gauge(make_record(1, Verdict.DEFECT, strangeness=1e6))))
    assert at[ARROW] == 100
    assert DIAMOND not in at


def test_labels_of_thresholds_that_are_one_stand_side_by_side(make_record: MakeRecord) -> None:
    at = places(str(gauge(make_record(1, Verdict.PASS, strangeness=0.1, t_review=8.0, t_defect=8.0))))
    assert at["T1 rule"] == at["T2 rule"]
    # One ends before the other begins.
    assert at["T2"] - at["T1"] >= 2
    assert at["T2"] <= 100 - 18


@pytest.mark.parametrize("changes", [{"strangeness": None}, {"t_review": None}, {"strangeness": math.nan}])
def test_where_there_is_nothing_to_draw_there_is_no_drawing(
    make_record: MakeRecord, changes: dict[str, float | None]
) -> None:
    assert gauge(make_record(1, Verdict.INVALID, **({"strangeness": 1.0} | changes))) == ""
