"""Fit all densities of a product, so that every part is judged by some that have never seen it.

Parts are dealt into folds. For each fold there are global densities that miss it, and one set that misses
nothing. Local densities, which see a thousand patches a part, do not need every fold: of many parts half are
plenty, so that two of each scale judge all parts, and what is learned about patches is learned three times
instead of five. Every density is a job of its own; see `differnet.detection.side_by_side`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from differnet.detection.densities import Losses, PartDensity, PatchDensity
from differnet.detection.ensemble import Ensemble, Member, deal, held_out
from differnet.detection.evidence import RawEvidence
from differnet.detection.gathering import Features
from differnet.detection.settings import DetectorSettings
from differnet.detection.side_by_side import Say, side_by_side
from differnet.detection.team import Team

Progress = Callable[[int, int], None]
Result = TypeVar("Result")

HALVES_FROM = 200
"""Different parts from which on a half of them is enough to learn patches from: a hundred thousand.
Halves are made of an even number of folds."""


def cross_fit(
    features: Features,
    names: Sequence[str],
    different: int,
    settings: DetectorSettings,
    progress: Progress | None = None,
    losses: Losses | None = None,
) -> tuple[Ensemble, RawEvidence]:
    """Fit all densities, and judge every picture by those that have missed it.

    Processes that work as a `Team` share the work; every one of them has to call this.

    Args:
        features: Of the pictures.
        names: Pictures of a name go into one fold.
        different: Parts that are on them.
        settings: Folds, seed, and how densities are built.
        progress: Called with (steps done, steps in all) of the local densities.
        losses: Told how each training goes; densities go by their names in a model.

    Returns:
        The densities, and the evidence of every picture, with the kinds that the complete densities tell.
    """
    work = _CrossFitting(features, names, different, settings, progress, losses)
    return work.done()


class _CrossFitting:
    def __init__(
        self,
        features: Features,
        names: Sequence[str],
        different: int,
        settings: DetectorSettings,
        progress: Progress | None,
        losses: Losses | None,
    ) -> None:
        self.features, self.names, self.different = features, names, different
        self.settings, self.progress, self.losses = settings, progress, losses
        self.folds = min(settings.folds, len(set(names)))
        self.fold_of = deal(names, self.folds, settings.seed)
        # Local densities miss all folds of a group.
        halved = len(set(names)) >= HALVES_FROM and self.folds % 2 == 0
        self.groups = 2 if halved else self.folds
        self.group_of = self.fold_of % self.groups

    def done(self) -> tuple[Ensemble, RawEvidence]:
        wholes = self._shared([partial(self._wholes, number) for number in range(self.folds + 1)])
        conditions = [of[0] for of in wholes]
        if self.groups < self.folds:
            halves = self._shared([partial(self._condition, group) for group in range(self.groups)])
            conditions = [*halves, conditions[-1]]
        patches = self._patches(conditions)
        members = [self._member(fold, wholes, patches, conditions) for fold in range(self.folds)]
        complete = Member(wholes[-1], patches[-1])
        ensemble = Ensemble(tuple(members), complete)
        judged = self._shared([partial(self._judged, fold, members[fold]) for fold in range(self.folds)])
        held = RawEvidence.joined(judged)
        index = torch.cat([torch.nonzero(self.fold_of == fold)[:, 0] for fold in range(self.folds)])
        held = held[np.argsort(index.numpy())]
        return ensemble, replace(held, kinds=ensemble.kinds(self.features))

    def _shared(self, jobs: Sequence[Callable[[Say], Result]]) -> list[Result]:
        team = Team.current()
        return team.merged(side_by_side(team.share(jobs)))

    def _wholes(self, number: int, say: Say) -> tuple[PartDensity, ...]:
        """Fit the global densities that miss a fold; the last ones miss nothing."""
        parts = learned_from(self.fold_of, number)
        # Of one part its pictures are dealt, of several the parts.
        given = min(self.different, len({self.names[i] for i in parts.tolist()}))
        member = self._in_words("fold", number, self.folds)
        return tuple(
            PartDensity.fit(
                statistics[parts],
                self.settings.density,
                self._seed(number) + 100 * i,
                given,
                self._told(say, member, f"whole{i}"),
            )
            for i, statistics in enumerate(self.features.statistics)
        )

    def _condition(self, group: int, say: Say) -> PartDensity:
        """Fit the Gaussian whose coordinates condition the patches of a group."""
        parts = learned_from(self.group_of, group)
        plain = replace(self.settings.density, whole_couplings=0)
        return PartDensity.fit(self.features.statistics[0][parts], plain, self._seed(group))

    def _patches(self, conditions: Sequence[PartDensity]) -> list[tuple[PatchDensity, ...]]:
        """Fit the local densities that miss a group, and those that miss nothing: scales of each."""
        widths = [grid.shape[-1] for grid in self.features.patches]
        asked = [(number, scale) for number in range(self.groups + 1) for scale in range(len(widths))]
        # The longest ones first, so that none of them is left alone at the end.
        asked.sort(key=lambda job: -widths[job[1]])
        steps, share = [0] * len(asked), len(Team.current().share(asked))

        def fit(place: int, number: int, scale: int, say: Say) -> PatchDensity:
            def told(done: int, of: int) -> None:
                def tell() -> None:
                    steps[place] = done
                    if self.progress is not None:
                        self.progress(sum(steps), share * of)

                say(tell)

            member = self._in_words("half" if self.groups < self.folds else "fold", number, self.groups)
            # Seeds are those of the member whose patches these are: the last one's of all parts.
            seed = self._seed(self.folds if number == self.groups else number) + scale + 1
            fitted = PatchDensity.fit(
                self.features.patches[scale],
                conditions[number].leading(self.features.statistics[0]),
                self.settings.density,
                seed,
                told,
                self.features.kept[scale],
                self._told(say, member, f"patches{scale}"),
                learned_from(self.group_of, number),
            )
            # A density that stays its Gaussian has taken no step.
            told(self.settings.density.steps, self.settings.density.steps)
            return fitted

        fitted = self._shared([partial(fit, place, *job) for place, job in enumerate(asked)])
        found = dict(zip(asked, fitted, strict=True))
        return [
            tuple(found[number, scale] for scale in range(len(widths))) for number in range(self.groups + 1)
        ]

    def _member(
        self,
        fold: int,
        wholes: Sequence[tuple[PartDensity, ...]],
        patches: Sequence[tuple[PatchDensity, ...]],
        conditions: Sequence[PartDensity],
    ) -> Member:
        group = fold % self.groups
        return Member(wholes[fold], patches[group], conditions[group])

    def _judged(self, fold: int, member: Member, say: Say) -> RawEvidence:
        return held_out(member, self.features, torch.nonzero(self.fold_of == fold)[:, 0])

    def _seed(self, number: int) -> int:
        return 1000 * self.settings.seed + 10 * number

    def _told(self, say: Say, member: str, density: str) -> Losses | None:
        losses = self.losses
        if losses is None:
            return None
        return lambda loss: say(partial(losses, replace(loss, member=member, density=density)))

    def _in_words(self, what: str, number: int, of: int) -> str:
        return "all parts" if number == of else f"without {what} {number + 1} of {of}"


def learned_from(dealt: Tensor, missed: int) -> Tensor:
    """Return the numbers of the parts that are not dealt to ``missed``."""
    return torch.nonzero(dealt != missed)[:, 0]
