"""Short versions of I1, I2 and I3; ``benchmarks/trust_report.py`` runs them in full."""

from __future__ import annotations

import pytest

from differnet.images.reading import read_image
from trust.picture_checks import BOMBS, VARIANTS, bombs, mutated_pictures, one_rule, ruled_pictures


def test_mutated_pictures_are_inspected_or_refused() -> None:
    found = mutated_pictures(450, 1)
    assert found.figures["died"] == found.figures["hung"] == found.figures["something else"] == 0, found
    assert int(found.figures["inspected"]) > 50
    assert int(found.figures["refused with a reason"]) > 50


@pytest.mark.parametrize("name", VARIANTS)
def test_files_are_sound_before_they_are_mutated(name: str) -> None:
    assert all(read_image(blob).pixels.size for blob in VARIANTS[name])


def test_no_bomb_reaches_a_decoder() -> None:
    found = bombs(21, 0, apart_=False)
    assert found.figures["refused before decoding"] == len(BOMBS) == 21, found.figures


def test_the_rule_is_the_same_on_every_way_in() -> None:
    found = one_rule(16, 0)
    assert found.passed, found.figures


@pytest.mark.parametrize("wanted", ["orientation 8", "12 bits", "alpha", "CMYK", "palette"])
def test_the_rule_is_asked_about(wanted: str) -> None:
    assert any(wanted in name for name in ruled_pictures())
