"""What the browser is handed agrees with the record, the heat map and the mask, and is bounded."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.images.reading import read_image
from differnet.records import Record, Region, Verdict
from differnet.reporting.artefacts import Artefacts, closeup_square
from differnet.reporting.figures import DARKEST_COLOUR, colour_table, ruler_svg
from differnet.reporting.viewing import (
    LARGEST_SIDE,
    Layer,
    heat_layer,
    layer_data,
    outlines,
    picture_data,
    rarity_words,
    region_data,
    view_data,
)

MakeRecord = Callable[..., Record]


def filled(shapes: list[list[float]], height: int, width: int) -> NDArray[np.bool_]:
    """Draw shapes as a browser does, by the even-odd rule."""
    canvas = np.zeros((height, width), np.uint8)
    for shape in shapes:
        points = np.reshape(shape, (-1, 2)) * [width, height]
        one = np.zeros_like(canvas)
        # To a sixteenth of a pixel; -0.5 since OpenCV counts from the middles of pixels.
        cv2.fillPoly(one, [np.round(16 * (points - 0.5)).astype(np.int32)], 1, shift=4)
        canvas ^= one
    return canvas.astype(bool)


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_outlines_enclose_the_mask_holes_left_out() -> None:
    mask = np.zeros((120, 200), bool)
    cv2.circle(canvas := mask.astype(np.uint8), (60, 50), 30, 1, -1)
    cv2.circle(canvas, (60, 50), 12, 0, -1)
    cv2.rectangle(canvas, (130, 70), (180, 110), 1, -1)
    shapes = outlines(canvas.astype(bool))
    assert len(shapes) == 3
    assert overlap(filled(shapes, 120, 200), canvas.astype(bool)) > 0.93


@pytest.mark.parametrize("side", [64, 512, 3000])
def test_a_hair_of_one_pixel_is_outlined_at_any_size(side: int) -> None:
    mask = np.zeros((side, side), bool)
    mask[side // 3, side // 4 : side // 2] = True
    shapes = outlines(mask)
    assert len(shapes) == 1
    points = np.reshape(shapes[0], (-1, 2))
    assert points[:, 0].min() == pytest.approx(0.25, abs=0.02)
    assert points[:, 0].max() == pytest.approx(0.5, abs=0.02)
    assert points[:, 1].mean() == pytest.approx(1 / 3, abs=0.02)


def test_a_mask_of_noise_has_a_bounded_number_of_shapes() -> None:
    noise = np.random.default_rng(0).random((400, 400)) > 0.7
    assert len(outlines(noise)) == 200
    assert outlines(np.zeros((9, 9), bool)) == []


def decoded(layer: dict[str, object]) -> NDArray[np.float64]:
    steps = np.frombuffer(base64.b64decode(str(layer["values"])), np.uint8)
    shape = (int(str(layer["rows"])), int(str(layer["columns"])))
    return steps.reshape(shape) * float(str(layer["top"])) / 255


def test_a_layers_values_come_back_to_half_a_step() -> None:
    values = np.random.default_rng(0).gamma(2, 2, (7, 11)).astype(np.float32)
    told = layer_data(Layer("x", values, (1.0, 6.0), "words"))
    step = max(6.0, float(values.max())) / 255
    assert float(np.abs(decoded(told) - values).max()) <= step / 2 + 1e-6
    assert told["scales"]["run"]["low"] == 1.0
    assert told["scales"]["run"]["high"] == 6.0
    assert told["scales"]["own"]["low"] == float(values.min())
    assert told["scales"]["own"]["high"] == float(values.max())
    for scale in told["scales"].values():
        assert all(scale["low"] < tick < scale["high"] for tick in scale["ticks"])


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((2, 5), 4.0)])
def test_a_layer_of_one_value_has_scales_all_the_same(values: NDArray[np.float64]) -> None:
    told = layer_data(Layer("x", values.astype(np.float32), (0.0, 1.0), ""))
    assert told["scales"]["own"]["high"] > told["scales"]["own"]["low"]
    assert np.allclose(decoded(told), values)


def test_what_is_handed_over_is_strict_json_without_what_is_not_a_number(make_record: MakeRecord) -> None:
    record = make_record(1, Verdict.DEFECT, regions=(Region(10, 20, 30, 40, 300, 7.0, 0.005),))
    heat = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    picture = picture_data(np.zeros((256, 256, 3), np.uint8), "words")
    shown = view_data(record, picture, [heat_layer(heat, (3.0, 12.0))], heat_map=heat)
    text = json.dumps(shown, allow_nan=False)
    assert json.loads(text)["item"] == record.item_id
    assert len(base64.b64decode(shown["colours"])) == 3 * 256


def test_five_megapixels_are_handed_over_in_a_few_hundred_kilobytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 30, (1944, 2592, 3), dtype=np.uint8)
    shown = picture_data(cv2.GaussianBlur(pixels, (0, 0), 2), "x")
    assert (shown["width"], shown["height"]) == (LARGEST_SIDE, round(1944 * LARGEST_SIDE / 2592))
    assert len(shown["uri"]) < 700_000


def test_regions_are_numbered_from_the_hottest_and_lie_in_their_boxes(make_record: MakeRecord) -> None:
    heat = np.zeros((256, 256), np.float32)
    heat[20:60, 10:40], heat[150:190, 100:180] = 5.0, 9.0
    regions = (Region(10, 20, 30, 40, 1200, 5.0, 0.03), Region(100, 150, 80, 40, 3200, 9.0, 0.005))
    told = region_data(make_record(1, Verdict.DEFECT, regions=regions), heat)
    assert [one["number"] for one in told] == [1, 2]
    assert told[0]["words"] == "p 0.005, peak 9.0, 80\u00a0\u00d7\u00a040\u00a0px"
    assert told[0]["box"] == [round(v, 5) for v in (100 / 256, 150 / 256, 80 / 256, 40 / 256)]
    assert overlap(filled(told[0]["shapes"], 256, 256), heat == 9.0) > 0.95
    assert overlap(filled(told[1]["shapes"], 256, 256), heat == 5.0) > 0.95
    boxes = region_data(make_record(1, Verdict.DEFECT, regions=regions), None)
    assert len(boxes[0]["shapes"]) == 1
    assert boxes[0]["shapes"][0][:2] == boxes[0]["box"][:2]


def test_the_close_up_is_laid_where_it_was_cut_out(make_record: MakeRecord) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1400, 3), dtype=np.uint8)
    pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 6), np.uint8)
    record = make_record(
        1, Verdict.DEFECT, width=1400, height=900, regions=(Region(1200, 40, 100, 60, 900, 7.0, 0.01),)
    )
    square = closeup_square(record)
    assert square is not None
    left, top, side = square
    assert (side, top) == (200, 0)
    files = Artefacts.pack(record, None, pixels)
    closeup = read_image(files[f"closeups/{record.item_id}.jpg"]).pixels
    assert closeup.shape == (side, side, 3)
    cut = pixels[top : top + side, left : left + side].astype(float)
    assert float(np.abs(cut - closeup).mean()) < 4
    shown = view_data(record, picture_data(pixels, ""), [], closeup=closeup.astype(np.uint8))
    assert shown["closeup"]["box"] == [left / 1400, top / 900, side / 1400, side / 900]
    assert view_data(make_record(2, Verdict.PASS), picture_data(pixels, ""), [])["closeup"] is None


def test_names_from_outside_are_legible(make_record: MakeRecord) -> None:
    record = make_record(1, Verdict.PASS, part_id="part\u202egnp.exe")
    assert view_data(record, {}, [])["name"] == "part\\u202egnp.exe"


def test_colours_are_those_of_every_other_heat_map() -> None:
    table = colour_table()
    assert table.shape == (256, 3)
    inferno = cv2.applyColorMap(np.array([[DARKEST_COLOUR, 255]], np.uint8), cv2.COLORMAP_INFERNO)[0, :, ::-1]
    assert table[0].tolist() == inferno[0].tolist()
    assert table[255].tolist() == inferno[1].tolist()
    light = table.astype(float) @ [0.2126, 0.7152, 0.0722]
    assert bool((np.diff(light) > -2).all()), "hotter is brighter"


def test_rarity_is_said_in_round_numbers() -> None:
    for heat, words in (
        (0.0, "most places"),
        (1.0, "one place in 10"),
        (2.0, "one place in 100"),
        (2.5, "one place in 320"),
        (5.0, "one place in 100,000"),
        (40.0, "less than one place in a million"),
    ):
        assert rarity_words(heat) == words


@pytest.mark.parametrize("strangeness", [0.0, 1.3, 2.0, 35.0])
def test_the_ruler_shows_all_three_inside_its_frame(strangeness: float) -> None:
    drawn = str(ruler_svg(strangeness, 1.3, 2.0))
    assert f"Strangeness {strangeness:.2f}, T1 at 1.30, T2 at 2.00." in drawn
    places = [float(part.split('"')[0]) for part in drawn.split(' x="')[1:]]
    assert all(0 <= place <= 324 for place in places)
    assert ("l-9,-6" in drawn) is (strangeness > 10)
    assert "currentColor" in drawn
