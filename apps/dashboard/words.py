"""How verdicts are written on every page: a shape and a word, never a colour alone."""

from __future__ import annotations

from differnet.records import Verdict

SHAPES = {
    Verdict.PASS: "\N{BLACK CIRCLE}",
    Verdict.REVIEW: "\N{BLACK UP-POINTING TRIANGLE}",
    Verdict.DEFECT: "\N{BLACK DIAMOND}",
    Verdict.OOD: "\N{BLACK SQUARE}",
    Verdict.INVALID: "\N{MULTIPLICATION X}",
}

COLOURS = {
    Verdict.PASS: "green",
    Verdict.REVIEW: "orange",
    Verdict.DEFECT: "red",
    Verdict.OOD: "violet",
    Verdict.INVALID: "gray",
}


def verdict_word(verdict: Verdict) -> str:
    """Write a verdict with its shape, coloured where Markdown is read."""
    return f":{COLOURS[verdict]}[{SHAPES[verdict]} {verdict.value}]"
