"""Charts are well-formed and say what they show; overlays keep one scale."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest

from differnet.records import Record, Region, Verdict
from differnet.reporting.counts import Truth, columns_of, histogram
from differnet.reporting.figures import (
    axis_ticks,
    colour_scale_picture,
    describe_histogram,
    heat_overlay,
    heat_picture,
    histogram_svg,
    stacked_bar,
    verdict_glyph,
)
from differnet.reporting.run_folder import RunFolder

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

GREY = np.full((300, 300, 3), 120, np.uint8)


@pytest.mark.parametrize(
    "labels", [[], ["good"], ["good"] * 9 + ["dent"] * 3 + [None, "wrong_input/x"], ["unreadable"]]
)
@pytest.mark.parametrize("width", [380, 960])
def test_histograms_are_well_formed_and_titled(
    make_run: MakeRun, labels: list[str | None], width: int
) -> None:
    counted = histogram(columns_of(make_run(labels).records), 1.3, 2.0)
    tree = ElementTree.fromstring(histogram_svg(counted, 1.3, 2.0, width))
    assert tree.attrib["role"] == "img"
    assert tree.find("title") is not None
    assert tree.findtext("desc") == describe_histogram(counted, 1.3, 2.0)
    bars = [bar for group in tree.findall("g") for bar in group.findall("rect")]
    assert len(bars) == np.count_nonzero(counted.counts)
    for bar in bars:
        assert 0 <= float(bar.attrib["x"]) <= width - float(bar.attrib["width"])


def test_both_thresholds_stand_where_the_axis_says(make_run: MakeRun) -> None:
    counted = histogram(columns_of(make_run(["good"] * 20 + ["dent"] * 5).records), 1.3, 2.0)
    tree = ElementTree.fromstring(histogram_svg(counted, 1.3, 2.0, 960))
    lines = [float(path.attrib["d"][1:].split(",")[0]) for path in tree.findall("path[@class='threshold']")]
    assert lines[1] - lines[0] == pytest.approx((2.0 - 1.3) / counted.upper * (960 - 60), abs=0.02)


def test_groups_differ_by_pattern_not_only_by_colour(make_run: MakeRun) -> None:
    counted = histogram(columns_of(make_run(["good", "dent", None, "wrong_input/x"]).records), 1.3, 2.0)
    text = str(histogram_svg(counted, 1.3, 2.0))
    patterns = {part.split('"')[0] for part in text.split('<pattern id="')[1:]}
    assert patterns == {"wide-defect", "wide-wrong_input", "wide-unlabelled"}
    assert all(group.words in text for group in Truth)


def test_glyphs_have_five_shapes() -> None:
    shapes = {str(verdict_glyph(verdict)).split("<")[2] for verdict in Verdict}
    assert len(shapes) == 5


def test_a_bar_is_split_in_proportion() -> None:
    tree = ElementTree.fromstring(stacked_bar([1, 0, 3, 0, 0], 8))
    assert [float(rect.attrib["width"]) for rect in tree] == [12.5, 37.5]


def test_equal_heat_gets_equal_colour_in_different_pictures() -> None:
    one, two = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    one[1, 1], two[1, 1], two[3, 3] = 6, 6, 50
    first, second = heat_picture(one, (3, 12)), heat_picture(two, (3, 12))
    np.testing.assert_array_equal(first[200, 200], second[200, 200])


def test_hotter_is_brighter() -> None:
    light = colour_scale_picture()[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(light) >= -1.5)
    assert light[-1] - light[0] > 150


def test_heat_below_the_scale_leaves_the_picture_alone() -> None:
    np.testing.assert_array_equal(heat_overlay(GREY, np.full((8, 8), 2.9, np.float32), (3, 12)), GREY)


def test_opacity_nothing_shows_the_picture() -> None:
    np.testing.assert_array_equal(
        heat_overlay(GREY, np.full((8, 8), 20, np.float32), (3, 12), opacity=0), GREY
    )


def test_heat_lies_where_the_defect_is() -> None:
    heat = np.zeros((10, 10), np.float32)
    heat[2, 7] = 20
    changed = np.abs(heat_overlay(GREY, heat, (3, 12)).astype(int) - GREY).sum(axis=2)
    rows, columns = np.nonzero(changed > changed.max() / 2)
    assert (rows.mean() / 300, columns.mean() / 300) == pytest.approx((0.25, 0.75), abs=0.02)


def test_outlines_follow_the_region(make_record: MakeRecord) -> None:
    heat = np.zeros((60, 60), np.float32)
    heat[20:30, 40:50] = 9
    record = make_record(
        1, Verdict.DEFECT, width=600, height=600, regions=(Region(380, 180, 140, 140, 10_000, 9, 0.1),)
    )
    drawn = heat_overlay(GREY, heat, (100, 200), record)
    rows, columns = np.nonzero((drawn > 200).all(axis=2))
    assert (rows.min(), columns.min()) == pytest.approx((100, 200), abs=3)
    assert (rows.max(), columns.max()) == pytest.approx((149, 249), abs=3)


@pytest.mark.parametrize(
    "region",
    [Region(-5, -5, 2, 2, 1, 1, 1), Region(9999, 9999, 50, 50, 10**9, 1, 1), Region(0, 0, 600, 600, 0, 1, 1)],
)
def test_a_region_outside_the_picture_breaks_nothing(make_record: MakeRecord, region: Region) -> None:
    record = dataclasses.replace(make_record(1, Verdict.DEFECT), regions=(region,))
    assert heat_overlay(GREY, np.ones((3, 3), np.float32), (0, 1), record).shape == GREY.shape


def test_tiny_pictures_are_enlarged_before_lines_are_drawn() -> None:
    assert heat_overlay(np.zeros((8, 4, 3), np.uint8), None, (0, 1)).shape == (288, 144, 3)


@pytest.mark.parametrize("upper", [1e-3, 0.7, 1.0, 6.02, 10, 99, 1e6])
def test_ticks_are_few_round_and_inside(upper: float) -> None:
    ticks = axis_ticks(upper, 8)
    assert 3 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= upper * (1 + 1e-9)
