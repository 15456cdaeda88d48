"""Move features to the nearest typical ones: what would have to change for them to look like a good part's?

With the flow's latent ``z = f(x; c)`` of features ``x`` given their context ``c`` and its energy
``e = |z|^2 / D``, features are typical where ``e <= e*``, a limit that the calibration tells. It counts
upwards only, as the detector does: what is too probable is told by other means. The nearest typical latent is
the projection on a ball,

    z' = z min(1, sqrt(e* / e)),

since no ``z'`` with ``|z'|^2 <= D e*`` is nearer to ``z`` than ``|z| - |z'| >= sqrt(D e) - sqrt(D e*)``, and
this one is as near. The features are ``x' = f^-1(z'; c)``, with the context kept: the same place of the same
part. With ``W``, the whitening that the flow begins with, what changed is

    change = |W(x) - W(x')| / sqrt(D),

a root mean square over all directions of feature space, each in standard deviations of good parts. Of a
density without couplings, ``f = W``, it is ``sqrt(e) - sqrt(e*)`` beyond the limit. Typical features do not
move at all.

All of it rests on the inverse. `RoundTrip` says how well that works for the very features in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from differnet.detection.densities import gaussian_layers
from differnet.flows import Flow, round_trip_errors
from differnet.flows.health import LARGEST_LIMIT, MEDIAN_LIMIT


@dataclass(frozen=True)
class RoundTrip:
    """Whether a flow inverts at the features of one picture.

    Errors are those of `differnet.flows.HealthReport`, and so are their limits.

    Attributes:
        vectors: How many were sent there and back.
        not_finite: Of these, how many did not come back as finite numbers, moved or not.
        median_error: Of ``x -> z -> x``.
        largest_error: Likewise the largest.
        moved_error: Largest ``|f(x') - z'| / |z'|``, both by their largest number: whether features that were
            moved lie where they were meant to.
    """

    vectors: int
    not_finite: int
    median_error: float
    largest_error: float
    moved_error: float

    @classmethod
    def joined(cls, some: Sequence[RoundTrip]) -> Self:
        """Return the worst of several; what is not a number is the worst of all."""
        return cls(
            vectors=sum(one.vectors for one in some),
            not_finite=sum(one.not_finite for one in some),
            median_error=float(np.max([one.median_error for one in some])),
            largest_error=float(np.max([one.largest_error for one in some])),
            moved_error=float(np.max([one.moved_error for one in some])),
        )

    @property
    def sound(self) -> bool:
        """Whether what changed can be trusted: everything is finite, and every error is within its limit."""
        return (
            self.not_finite == 0
            and self.median_error <= MEDIAN_LIMIT
            and self.largest_error <= LARGEST_LIMIT
            and self.moved_error <= LARGEST_LIMIT
        )


class Moved(NamedTuple):
    """Features, moved to the nearest typical ones.

    Attributes:
        features: ``(n, features)``.
        beyond: ``(n,)`` bool, which of them were not typical and had to move.
        change: ``(n,)`` how far, root mean square standard deviations; 0 where the way back gave no finite
            number, which the round trip tells.
        energy: ``(n,)`` of the moved features, ``|f(x')|^2 / D``.
        nll: ``(n,)`` of the moved features, nats.
        round_trip: How well the flow inverts here.
    """

    features: Tensor
    beyond: Tensor
    change: Tensor
    energy: Tensor
    nll: Tensor
    round_trip: RoundTrip


@torch.no_grad()
def nearest_typical(flow: Flow, x: Tensor, context: Tensor | None, limit: float) -> Moved:
    """Move features to the nearest typical ones, see above.

    Args:
        flow: A density of `differnet.detection.densities`, which begins with a shrinkage Gaussian.
        x: ``(n, features)``, finite.
        context: ``(n, k)``, or ``None`` for a density without.
        limit: Largest energy of typical features, above 0.

    Raises:
        FlowError: Shapes do not fit, or the flow begins otherwise.
    """
    standardise, whitening = gaussian_layers(flow)
    z, _ = flow.transform(x, context)
    energy = z.square().mean(-1)
    beyond = energy > limit
    target = torch.where(beyond[:, None], z * (limit / energy).sqrt()[:, None], z)
    there, _ = flow.transform.inverse(target, context)
    # What is typical is left alone, rather than sent there and back.
    moved = torch.where(beyond[:, None], there, x)
    # W is affine: the two differ by what it makes of the difference, without its rounding of either.
    apart = whitening((x - moved) / standardise.scale + whitening.mean)[0]
    evidence = flow.evidence(moved, context)
    errors = round_trip_errors(flow, x, context)
    lost = ~(torch.isfinite(errors) & torch.isfinite(moved).all(-1) & torch.isfinite(evidence.nll))
    return Moved(
        features=moved,
        beyond=beyond,
        change=torch.nan_to_num(apart.square().mean(-1).sqrt(), nan=0.0, posinf=0.0),
        energy=1 + 2 * evidence.typicality / flow.features,
        nll=evidence.nll,
        round_trip=_round_trip(errors, lost, _missed(flow, there, target, context)),
    )


def _missed(flow: Flow, there: Tensor, target: Tensor, context: Tensor | None) -> Tensor:
    """Return how far from where they were meant to lie moved features lie, ``(n,)`` relative errors."""
    back, _ = flow.transform(there, context)
    size = target.abs().amax(-1).clamp_min(torch.finfo(target.dtype).tiny)
    missed: Tensor = (back - target).abs().amax(-1) / size
    return missed


def _round_trip(errors: Tensor, lost: Tensor, missed: Tensor) -> RoundTrip:
    lost = lost | ~torch.isfinite(missed)
    kept, told = errors[~lost], missed[~lost]
    known = len(kept) > 0
    return RoundTrip(
        vectors=len(errors),
        not_finite=int(lost.sum()),
        median_error=float(kept.median()) if known else float("inf"),
        largest_error=float(kept.max()) if known else float("inf"),
        moved_error=float(told.max()) if known else float("inf"),
    )
