"""What a continuous flow's tolerance costs and what error it leaves."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import Tensor

from differnet.flows.continuous import ADAPTIVE, ContinuousTransform
from differnet.flows.transform import FlowError


class ToleranceRow(NamedTuple):
    """What one tolerance costs and leaves.

    Attributes:
        tolerance: Asked for, relative and absolute alike.
        evaluations: Of the velocity, for one pass.
        vector_error: Largest error of a latent vector, relative to its vector's largest coordinate (to 1
            where that is less).
        log_det_error: Largest error of a log-determinant, nats.
    """

    tolerance: float
    evaluations: int
    vector_error: float
    log_det_error: float


def tolerance_table(
    transform: ContinuousTransform,
    x: Tensor,
    context: Tensor | None = None,
    *,
    tolerances: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
) -> list[ToleranceRow]:
    """Measure the error of ``forward`` at several tolerances, in float64, against dopri8 at 1e-12.

    Args:
        transform: Left as it is: copies are measured.
        x: ``(n, features)``, at least one.
        context: Broadcasts over ``n``.
        tolerances: One row each.

    Returns:
        Rows in the order of ``tolerances``.

    Raises:
        FlowError: The solver takes fixed steps; or as for ``forward``.
    """
    if transform.method not in ADAPTIVE:
        raise FlowError(
            expected=f"a solver that has a tolerance: one of {', '.join(ADAPTIVE)}",
            found=f"{transform.method}",
            remedy="Fixed steps have no error control; compare numbers of steps instead.",
        )
    double = copy.deepcopy(transform).double().requires_grad_(False)
    x, context = x.double(), None if context is None else context.double()
    method, double.method = double.method, "dopri8"
    # Orders below the finest tolerance of the table, two above what float64 leaves of a path.
    double.rtol = double.atol = 1e-12
    z, log_det = double(x, context)
    double.method = method
    rows = []
    for tolerance in tolerances:
        double.rtol = double.atol = tolerance
        found, found_log_det = double(x, context)
        gap = (found - z).abs().amax(-1) / x.abs().amax(-1).clamp_min(1)
        error = (found_log_det - log_det).abs().max()
        rows.append(ToleranceRow(tolerance, double.evaluations, float(gap.max()), float(error)))
    return rows
