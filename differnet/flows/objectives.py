"""Objectives that train a continuous flow otherwise than by its likelihood alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from differnet.flows.continuous import ContinuousTransform
from differnet.flows.density import Flow
from differnet.flows.training import Objective
from differnet.flows.transform import Compose, FlowError, Transform

_LOG_2PI = math.log(2 * math.pi)


def regularised_nll(*, kinetic: float = 0.01, jacobian: float = 0.01) -> Objective:
    """Return RNODE's objective: nll, and penalties that keep paths straight and the field smooth.

    ``-log p(x) + kinetic * int |v|^2 dt + jacobian * int |J e|^2 dt``, summed over the flow's continuous
    transforms. Straight paths at constant speed are the cheapest to integrate, so that the number of
    evaluations falls (see ``ContinuousTransform.evaluations``).

    Args:
        kinetic: Weight of the kinetic energy, nats for a unit of squared length.
        jacobian: Weight of the Jacobian's squared Frobenius norm, of which ``|J e|^2`` is an unbiased
            estimate.

    Returns:
        An objective for `fit_maximum_likelihood`.

    Raises:
        FlowError: A weight is negative; or, when it is called, the flow has no continuous transform.

    Source: Finlay et al. 2020, "How to train your neural ODE: the world of Jacobian and kinetic
    regularization", eq. 9, which uses 0.01 for both weights.
    """
    if not kinetic >= 0 or not jacobian >= 0:
        raise FlowError(
            expected="weights of 0 or more",
            found=f"{kinetic=}, {jacobian=}",
            remedy="Use 0.01 for both, as the paper does.",
        )

    def objective(flow: Flow, x: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
        chain = _chain(flow.transform)
        if not any(isinstance(transform, ContinuousTransform) for transform in chain):
            raise _no_continuous(chain)
        log_det, penalty = x.new_zeros(x.shape[:-1]), x.new_zeros(x.shape[:-1])
        for transform in chain:
            given = context if transform.context_features else None
            if isinstance(transform, ContinuousTransform):
                path = transform.regularised(x, given, generator=generator)
                x, step = path.z, path.log_det
                penalty = penalty + kinetic * path.kinetic + jacobian * path.jacobian
            else:
                x, step = transform(x, given)
            log_det = log_det + step
        nll = 0.5 * (x.square().sum(-1) + flow.features * _LOG_2PI) - log_det
        return nll + penalty

    return objective


def flow_matching(*, sigma_min: float = 1e-4) -> Objective:
    """Return the objective of conditional flow matching along straight paths.

    With ``x_0 ~ N(0, I)``, ``x_1`` the vector, ``s = sigma_min`` and ``t`` uniform in [0, 1]:
    ``x_t = (1 - (1 - s) t) x_0 + t x_1``, loss ``|v(t, x_t, context) - (x_1 - (1 - s) x_0)|^2 / features``.

    The velocity that minimises it carries the standard normal to the data smoothed by noise of deviation
    ``s``. Nothing is integrated, so that a step costs what a step of plain regression costs; densities and
    samples come from the same `ContinuousTransform` afterwards. The loss is no likelihood: it has a
    floor of its own, and flows are to be compared by ``log_prob``.

    The times of a batch are evenly spaced with one random offset (Kingma et al. 2021, "Variational
    diffusion models", appendix I.1): each is uniform, and the loss varies less.

    Args:
        sigma_min: Deviation of the smoothing, in the unit of the vectors that reach the continuous
            transform.

    Returns:
        An objective for `fit_maximum_likelihood`.

    Raises:
        FlowError: ``sigma_min`` is outside [0, 1); or, when it is called, the flow's last transform is not
            continuous, or one before it has weights to train, which this loss could only make collapse.

    Source: Lipman et al. 2023, "Flow matching for generative modeling", eq. 20 to 23; with ``s = 0`` the
    paths of Liu et al. 2023 (rectified flow) and of Tong et al. 2023 (independent coupling).
    """
    if not 0 <= sigma_min < 1:
        raise FlowError(
            expected="sigma_min in [0, 1)",
            found=f"{sigma_min=}",
            remedy="Use a small deviation, such as 1e-4.",
        )

    def objective(flow: Flow, x: Tensor, context: Tensor | None, generator: torch.Generator) -> Tensor:
        *before, last = _chain(flow.transform)
        if not isinstance(last, ContinuousTransform):
            raise _no_continuous([last])
        if any(p.requires_grad for transform in before for p in transform.parameters()):
            raise FlowError(
                expected="only fixed transforms before the continuous one",
                found=", ".join(type(transform).__name__ for transform in before),
                remedy="Take a whitening, or train by likelihood.",
            )
        for transform in before:
            x, _ = transform(x, context if transform.context_features else None)
        rows = x.reshape(-1, last.features)
        latent = torch.randn(rows.shape, generator=generator).to(rows)
        even = torch.arange(len(rows), dtype=torch.float64) / max(len(rows), 1)
        t = ((even + torch.rand((), generator=generator)) % 1).to(rows)
        narrowing = 1 - sigma_min
        at = (1 - narrowing * t).unsqueeze(-1) * latent + t.unsqueeze(-1) * rows
        given = None
        if last.context_features and context is not None:
            width = last.context_features
            given = context.expand(*x.shape[:-1], width).reshape(-1, width)
        miss: Tensor = last.velocity(t, at, given) - (rows - narrowing * latent)
        return miss.square().mean(-1).reshape(x.shape[:-1])

    return objective


def _chain(transform: Transform) -> list[Transform]:
    """Return the transforms of nested compositions, data to latent."""
    if not isinstance(transform, Compose):
        return [transform]
    return [part for t in transform.transforms if isinstance(t, Transform) for part in _chain(t)]


def _no_continuous(chain: list[Transform]) -> FlowError:
    return FlowError(
        expected="a flow whose transform is or ends with a ContinuousTransform",
        found=", ".join(type(transform).__name__ for transform in chain),
        remedy="Build it with ffjord() or rnode().",
    )
