"""The judge reads both statistics of the patches' density, and says of which evidence a part is strange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from differnet.detection.evidence import RawEvidence
from differnet.detection.judging import Calibration, Identity, Judge, SpoiltParts
from differnet.detection.usual import Usual
from differnet.records import Picture, Verdict

NATS = 2.0


def drawn(parts: int, seed: int) -> RawEvidence:
    """Evidence of good parts of two zooms and three scales, in which nothing depends on anything."""
    rng = np.random.default_rng(seed)
    maps = tuple(rng.random((parts, 8, 8)).astype(np.float32) for _ in range(3))
    return RawEvidence(
        whole=rng.normal(0, 0.2, (parts, 2)),
        local=rng.normal(0, 0.2, (parts, 3)),
        extent=np.exp(rng.normal(0, 0.1, (parts, 3))),
        cells=rng.normal(0, 0.1, (parts, 12)),
        nll_whole=rng.normal(NATS, 0.1, parts),
        nll_local=rng.normal(NATS, 0.1, (parts, 3)),
        kinds=np.zeros((parts, 0)),
        maps=maps,
        shares=maps[:2],
    )


def judge_of(good: RawEvidence) -> Judge:
    # Defects are far out in the cells' third quarter alone, wrong inputs everywhere.
    defects, wrong = drawn(40, 8), drawn(40, 9)
    defects.local[:] += 5.0
    defects.cells[:, 3::4] += 0.5
    wrong.local[:] += 5.0
    wrong.cells[:] += 1.0
    calibration = Calibration.of(good, 0.05, 0.01, "split", SpoiltParts(defects, wrong, ("turned",) * 40))
    return Judge(calibration, Identity("model", "cpu", "part", (10, 20, 30, 40)))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return judge_of(drawn(200, 0))


def test_patches_are_as_strange_as_their_stranger_statistic(judge: Judge) -> None:
    fair = drawn(6, 1)
    rough, strange = fair.nll_local.copy(), fair.local.copy()
    rough[:, 1] += 1.0
    strange[:, 1] += 2.0
    usual = judge.strangeness(fair)
    alone = [judge.strangeness(p) for p in (replace(fair, nll_local=rough), replace(fair, local=strange))]
    for found in alone:
        assert (found["local"] > usual["local"] + 2).all()
        assert (found["total"] > usual["total"] + 1).all()
        assert np.array_equal(found["whole"], usual["whole"])
    both = judge.strangeness(replace(fair, nll_local=rough, local=strange))
    assert both["local"] == pytest.approx(np.maximum(*(a["local"] for a in alone)))


def test_patches_are_as_strange_as_at_their_strangest_scale(judge: Judge) -> None:
    fair = drawn(6, 1)
    fine, coarse, both = (fair.local.copy() for _ in range(3))
    fine[:, 0] += 2.0
    coarse[:, 2] += 3.0
    both[:, 0], both[:, 2] = fine[:, 0], coarse[:, 2]
    said = [judge.strangeness(replace(fair, local=local)) for local in (fine, coarse, both)]
    assert said[2]["local"] == pytest.approx(np.maximum(said[0]["local"], said[1]["local"]))
    assert (said[2]["local"] > judge.strangeness(fair)["local"] + 2).all()
    # What patches say counts once beside the whole, not once a scale.
    assert (said[2]["total"] <= np.maximum(said[0]["total"], said[1]["total"]) + 1e-9).all()


def test_a_constant_of_the_density_says_nothing(judge: Judge) -> None:
    """Nll has no zero: features in other units move every part's by as much."""
    moved = drawn(200, 0)
    moved = replace(moved, nll_local=moved.nll_local - [100.0, 0.0, 7.5])
    fair = drawn(6, 1)
    other = judge_of(moved).strangeness(replace(fair, nll_local=fair.nll_local - [100.0, 0.0, 7.5]))
    for name, figures in judge.strangeness(fair).items():
        assert other[name] == pytest.approx(figures, abs=1e-9)


def test_what_is_more_probable_than_any_part_is_not_strange_for_that(judge: Judge) -> None:
    fair = drawn(6, 1)
    smooth = replace(fair, nll_local=fair.nll_local - 50.0)
    assert (judge.strangeness(smooth)["local"] <= judge.strangeness(fair)["local"]).all()


def test_strange_pictures_are_defects_or_wrong_inputs_by_how_far_they_reach(judge: Judge) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    def verdict(evidence: RawEvidence) -> Verdict:
        return judge.judge(evidence, 0, Picture(pixels, None, "0" * 64), 1.0).record.verdict

    fair = drawn(1, 1)
    far = fair.local + 5.0
    assert verdict(fair) is Verdict.PASS
    assert verdict(replace(fair, local=far)) is Verdict.DEFECT
    assert verdict(replace(fair, local=far, cells=fair.cells + 1.0)) is Verdict.OOD
    # Alone, the reach of what is hardly strange says nothing.
    assert verdict(replace(fair, cells=fair.cells + 1.0)) is Verdict.PASS


def test_records_carry_nats_and_bits_a_feature(judge: Judge) -> None:
    fair = drawn(1, 1)
    fair.nll_local[0] = [2.5, 5.0, 2.0]
    fair.local[0] = np.log([1.1, 1.2, 1.3])
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    record = judge.judge(fair, 0, Picture(pixels, None, "0" * 64), 1.0).record
    # The three scales have 20, 30 and 40 features.
    assert record.nll_local == pytest.approx(20 * 2.5 + 30 * 5.0 + 40 * 2.0)
    assert record.bits_per_dim_local == pytest.approx(280 / 90 / np.log(2))
    assert record.typicality_local == pytest.approx(0.5 * (20 * 0.1 + 30 * 0.2 + 40 * 0.3))
    assert record.nll_global == pytest.approx(10 * fair.nll_whole[0])
    for name in ("nll_local", "nll_whole", "cells"):
        broken = drawn(1, 1)
        getattr(broken, name)[0] = np.nan
        assert judge.judge(broken, 0, Picture(pixels, None, "0" * 64), 1.0).record.verdict is Verdict.INVALID


def test_what_is_usual_is_learned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Usual] = []
    true = Usual.of

    def counted(arrays: Mapping[str, NDArray[np.float64]]) -> Usual:
        learned.append(true(arrays))
        return learned[-1]

    monkeypatch.setattr(Usual, "of", staticmethod(counted))
    judge = judge_of(drawn(60, 0))
    assert len(learned) == 1
    # As it would be learned from the calibration that came of it.
    calibration = judge.calibration
    for name, figures in true(calibration.arrays).held_out.sums.items():
        assert np.array_equal(calibration.usual.held_out.sums[name], figures), name
    # Another calibration knows nothing of it.
    assert replace(calibration, whole=calibration.whole + 1).usual is not calibration.usual
    assert len(learned) == 2
