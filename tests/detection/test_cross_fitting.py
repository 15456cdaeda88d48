"""Who judges whom: every part by densities that have never seen it, whatever the number of parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from differnet.detection import DensitySettings, DetectorSettings, cross_fitting
from differnet.detection.cross_fitting import cross_fit
from differnet.detection.densities import PatchDensity, TrainingLoss
from differnet.detection.ensemble import deal, held_out
from differnet.detection.gathering import Features

PARTS = 24
SETTINGS = DetectorSettings(
    folds=4, seed=3, density=DensitySettings(steps=4, couplings=1, hidden=8, batch=32), device="cpu"
)
# The last two are one picture twice.
NAMES = [str(min(number, PARTS - 2)) for number in range(PARTS)]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def features() -> Features:
    patches = (drawn(PARTS, 4, 4, 3, seed=1), drawn(PARTS, 2, 2, 5, seed=2))
    kept = tuple(torch.ones(p.shape[1:3], dtype=torch.bool) for p in patches)
    fields = (drawn(PARTS, 2, 4, 4, seed=3).half(),)
    return Features((drawn(PARTS, 12, seed=0),), patches, kept, (fields,), (None,))


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[int]]:
    """The parts that every local density was fitted to, by its identity."""
    found: dict[int, set[int]] = {}
    fit = PatchDensity.fit.__func__  # type: ignore[attr-defined]

    def noting(cls: Any, *given: Any) -> PatchDensity:
        density: PatchDensity = fit(cls, *given)
        found[id(density)] = set(given[-1].tolist())
        return density

    monkeypatch.setattr(PatchDensity, "fit", classmethod(noting))
    return found


@pytest.mark.parametrize(
    ("from_parts", "folds", "sets"), [(PARTS, 4, 5), (PARTS - 1, 4, 3), (PARTS - 1, 6, 3), (PARTS - 1, 5, 6)]
)
def test_no_part_is_judged_by_what_has_seen_it(
    from_parts: int,
    folds: int,
    sets: int,
    features: Features,
    learned: dict[int, set[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_fitting, "HALVES_FROM", from_parts)
    ensemble, evidence = cross_fit(features, NAMES, PARTS, replace(SETTINGS, folds=folds))
    fold_of = deal(NAMES, folds, SETTINGS.seed)
    assert fold_of[-1] == fold_of[-2]
    densities = {id(p) for m in (*ensemble.members, ensemble.complete) for p in m.patches}
    assert len(densities) == len(learned) == 2 * sets
    for fold, member in enumerate(ensemble.members):
        missed = torch.nonzero(fold_of == fold)[:, 0]
        for patches in member.patches:
            assert learned[id(patches)].isdisjoint(missed.tolist())
        whole, condition = member.wholes[0], member.condition
        assert condition is not None
        rest = features.statistics[0][fold_of != fold]
        torch.testing.assert_close(whole.mean, rest.mean(0), rtol=0, atol=1e-5)
        # The patches' condition has missed what they have.
        rest = features.statistics[0][sorted(learned[id(member.patches[0])])]
        torch.testing.assert_close(condition.mean, rest.mean(0), rtol=0, atol=1e-5)
        own = held_out(member, features, missed)
        np.testing.assert_array_equal(evidence.local[missed], own.local)
        np.testing.assert_array_equal(evidence.whole[missed], own.whole)
    for patches in ensemble.complete.patches:
        assert learned[id(patches)] == set(range(PARTS))


def test_halves_are_told_of_in_words(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_fitting, "HALVES_FROM", 0)
    told: list[TrainingLoss] = []
    steps: list[tuple[int, int]] = []
    cross_fit(features, NAMES, PARTS, SETTINGS, lambda *given: steps.append(given), told.append)
    assert {loss.member for loss in told} == {"all parts", "without half 1 of 2", "without half 2 of 2"}
    assert {loss.density for loss in told} == {"patches0", "patches1"}
    assert steps[-1] == (24, 24)
    assert sorted({done for done, _ in steps}) == list(range(1, 25))


def test_densities_that_stay_gaussians_are_told_of_too(features: Features) -> None:
    plain = replace(SETTINGS, density=replace(SETTINGS.density, couplings=0))
    steps: list[tuple[int, int]] = []
    cross_fit(features, NAMES, PARTS, plain, lambda *given: steps.append(given))
    assert steps == [(4 * number, 40) for number in range(1, 11)]
