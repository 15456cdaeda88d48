"""Two models on the same pictures: figures against counting by hand, and nothing that either has learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from differnet.detection import Detector
from differnet.evaluation import auroc_difference, proportion_interval
from differnet.records import Inspection, Record, Verdict
from differnet.reviewing import (
    ComparedPart,
    Comparison,
    ComparisonError,
    compare,
    comparison_of,
    keep,
    kept_comparison,
)
from reviewing.conftest import sha256_of

T_REVIEW, T_DEFECT = 1.0, 2.0


@dataclass
class Told:
    """Judges files by a strangeness that the test fixes for each name; ``None`` cannot be judged."""

    strangeness: dict[str, float | None]
    model_id: str
    trained_on: frozenset[str] = frozenset()
    settings: Any = field(default_factory=lambda: SimpleNamespace(product="flange"))

    def facts(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "calibration_id": f"c-{self.model_id}",
            "threshold_revision": 0,
            "t_review": T_REVIEW,
            "t_defect": T_DEFECT,
            "training_parts": 24,
            "product": self.settings.product,
        }

    def inspect_many(self, paths: Sequence[Path], progress: Any = None) -> Iterator[Inspection]:
        for done, path in enumerate(paths, 1):
            value = self.strangeness[path.stem]
            verdict = (
                Verdict.INVALID
                if value is None
                else Verdict.PASS
                if value < T_REVIEW
                else Verdict.REVIEW
                if value < T_DEFECT
                else Verdict.DEFECT
            )
            digest = sha256_of(path.read_bytes())
            width = 0 if path.read_bytes() == b"no picture" else 32
            yield Inspection(
                Record(
                    *("", digest[:16], path.stem, "", str(path), digest, verdict, ("told",)),
                    strangeness=value,
                    width=width,
                )
            )
            if progress is not None:
                progress("inspect", done, len(paths))


GOOD = {"g0": (0.1, 0.2), "g1": (0.5, 0.4), "g2": (2.5, 0.9), "g3": (1.5, 0.3)}
DEFECTS = {"d0": (0.3, 3.0), "d1": (3.0, 1.2), "d2": (0.6, 0.8), "d3": (2.2, 2.6)}


def detectors(trained: str = "") -> tuple[Detector, Detector]:
    both = [
        Told({name: values[side] for name, values in (GOOD | DEFECTS).items()}, ("old", "new")[side])
        for side in (0, 1)
    ]
    if trained:
        both[trained == "new"].trained_on = frozenset([sha256_of(b"g1")])
    return cast(tuple[Detector, Detector], tuple(both))


@pytest.fixture
def parts(tmp_path: Path) -> list[ComparedPart]:
    made = []
    for name in GOOD | DEFECTS:
        path = tmp_path / f"{name}.png"
        path.write_bytes(name.encode())
        truth = "good" if name in GOOD else "dent"
        origin = "reviewed" if name.endswith(("2", "3")) else "held out"
        made.append(ComparedPart(path, sha256_of(name.encode()), truth, origin))
    return made


def by_pairs(side: int) -> float:
    """The AUROC by counting every pair of a defect and a good part."""
    pairs = [(d[side], g[side]) for d in DEFECTS.values() for g in GOOD.values()]
    return sum((d > g) + (d == g) / 2 for d, g in pairs) / len(pairs)


def test_figures_are_those_of_counting(parts: list[ComparedPart]) -> None:
    found = compare(*detectors(), parts, "parts")
    assert (found.good, found.defects, found.held_out, found.reviewed) == (4, 4, 4, 4)
    for side, (auroc, overkill, escape, review) in (
        (found.old, (by_pairs(0), 1, 2, 1)),
        (found.new, (by_pairs(1), 0, 1, 1)),
    ):
        assert side.auroc == pytest.approx(auroc)
        assert (side.overkill.events, side.overkill.of) == (overkill, 4)
        assert (side.escape.events, side.escape.of) == (escape, 4)
        assert (side.review.events, side.review.of) == (review, 8)
        assert (side.escape.low, side.escape.high) == proportion_interval(escape, 4)
    names = [*GOOD, *DEFECTS]
    told = [[(GOOD | DEFECTS)[name][side] for name in names] for side in (0, 1)]
    expected = auroc_difference(told[1], told[0], [name in DEFECTS for name in names])
    assert found.difference == expected
    assert expected.difference == pytest.approx(by_pairs(1) - by_pairs(0))
    assert {Path(p.path).stem: (p.old_verdict.value, p.new_verdict.value) for p in found.flips} == {
        "g2": ("DEFECT", "PASS"),
        "g3": ("REVIEW", "PASS"),
        "d0": ("PASS", "DEFECT"),
        "d1": ("DEFECT", "REVIEW"),
    }


@pytest.mark.parametrize("who", ["old", "new"])
def test_a_learned_picture_is_never_compared_on(parts: list[ComparedPart], who: str) -> None:
    with pytest.raises(ComparisonError, match=r"trained on.*1 of 8"):
        compare(*detectors(who), parts, "parts")


def test_a_picture_counts_once(parts: list[ComparedPart], tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes(b"g0")
    copy = ComparedPart(tmp_path / "copy.png", sha256_of(b"g0"), "good", "reviewed")
    with pytest.raises(ComparisonError, match="every picture once"):
        compare(*detectors(), [*parts, copy], "parts")


def test_both_judge_the_same_bytes_or_the_picture_is_left_out(parts: list[ComparedPart]) -> None:
    old, new = detectors()
    parts[0].path.write_bytes(b"another")
    broken = parts[1].path
    broken.write_bytes(b"no picture")
    parts[1] = ComparedPart(broken, sha256_of(b"no picture"), "good", "held out")
    for each in (old, new):
        cast(Told, each).strangeness["g1"] = None
    found = compare(old, new, parts, "parts")
    assert (found.good, found.defects) == (2, 4)
    assert [line.split(": ")[1] for line in found.left_out] == [
        "changed while the models were compared",
        "told",
    ]


def test_what_a_model_cannot_judge_is_rejected_and_the_strangest(parts: list[ComparedPart]) -> None:
    old, new = detectors()
    cast(Told, new).strangeness["g0"] = None
    found = compare(old, new, parts, "parts")
    assert found.new.overkill.events == 1
    pairs = [(d[1], g[1]) for d in DEFECTS.values() for name, g in GOOD.items() if name != "g0"]
    assert found.new.auroc == pytest.approx(sum(d > g for d, g in pairs) / 16)


@pytest.mark.parametrize(
    ("kept", "sentence", "difference"),
    [
        ((), "Nothing was compared", False),
        (("g0", "g1"), "No defect was compared", False),
        (("d0", "d1"), "No good part was compared", False),
        (("g0", "d0", "d1"), "at least two parts of each", False),
        (("g0", "g1", "d0", "d1"), "too narrow", True),
        (("g0", "g1", "d1", "d3"), "0 escapes in 2 defects", True),
        (("g0", "g1", "d1", "d3"), "cannot be said", True),
        (("g2", "d2"), "chosen by people", False),
    ],
)
def test_it_says_what_cannot_be_concluded(
    parts: list[ComparedPart], kept: tuple[str, ...], sentence: str, difference: bool
) -> None:
    found = compare(*detectors(), [part for part in parts if part.path.stem in kept], "parts")
    assert any(sentence in told for told in found.cannot), found.cannot
    assert (found.difference is not None) == difference


def test_a_comparison_reads_back_as_it_was_kept(parts: list[ComparedPart], tmp_path: Path) -> None:
    found = compare(*detectors(), parts, "parts")
    assert kept_comparison(tmp_path / "model") is None
    assert keep(found, tmp_path / "model") == tmp_path / "model.comparison.json"
    assert kept_comparison(tmp_path / "model") == found
    assert keep(compare(*detectors(), [], "parts"), tmp_path / "model").is_file()
    read = kept_comparison(tmp_path / "model")
    assert isinstance(read, Comparison)
    assert not read.pictures


@pytest.mark.parametrize(
    "damage", [b"{}", b"not json", b"\xff", b'{"schema_version": 1, "schema_version": 1}']
)
def test_a_damaged_comparison_is_refused(tmp_path: Path, damage: bytes) -> None:
    comparison_of(tmp_path / "model").write_bytes(damage)
    with pytest.raises(ComparisonError):
        kept_comparison(tmp_path / "model")


def test_a_comparison_of_another_form_is_refused(parts: list[ComparedPart], tmp_path: Path) -> None:
    place = keep(compare(*detectors(), parts, "parts"), tmp_path / "model")
    place.write_text(place.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(ComparisonError, match="form 2"):
        kept_comparison(tmp_path / "model")
