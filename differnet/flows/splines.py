"""The monotone rational-quadratic spline: one function for couplings and autoregressive flows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def spline_parameters(bins: int) -> int:
    """Return how many numbers describe a spline: widths, heights and the slopes between bins."""
    return 3 * bins - 1


def rational_quadratic(
    values: Tensor, parameters: Tensor, *, bins: int, edge: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Map each value by its own monotone spline on ``[-edge, edge]``, the identity outside.

    In the bin ``[x_k, x_k + w]`` of height ``h`` above ``y_k``, with ``s = h / w``, slopes ``d, d'`` at its
    ends and ``r = (x - x_k) / w``::

        y     = y_k + h (s r^2 + d r (1 - r)) / (s + (d + d' - 2 s) r (1 - r))
        dy/dx = s^2 (d' r^2 + 2 s r (1 - r) + d (1 - r)^2) / (s + (d + d' - 2 s) r (1 - r))^2

    The inverse solves the quadratic for ``r`` in the form that does not cancel. The slope is 1 at both
    edges, so that the map is continuously differentiable everywhere.

    Args:
        values: Any shape.
        parameters: Values' shape and one axis more, of ``3 bins - 1``: logits of the widths, logits of the
            heights, logarithms of the slopes at the inner knots. Zeros make the identity.
        bins: Number of bins.
        edge: Half the width of the box in which the map is not the identity.
        inverse: Whether to map the other way.

    Returns:
        The mapped values and the logarithm of the slope of the direction taken, both of values' shape.

    Example:
        >>> import torch
        >>> values, identity = torch.tensor([0.3, 9.0]), torch.zeros(2, 11)
        >>> mapped, log_slope = rational_quadratic(values, identity, bins=4, edge=5.0)
        >>> [round(v, 4) for v in mapped.tolist()], [round(v, 4) for v in log_slope.tolist()]
        ([0.3, 9.0], [0.0, 0.0])

    Source: Durkan et al. 2019, "Neural spline flows", section 3.1 and appendix A; the spline is that of
    Gregory, Delbourgo 1982.
    """
    logits = parameters[..., : 2 * bins].reshape(*values.shape, 2, bins)
    shares = torch.softmax(logits, dim=-1)
    sizes = (2 * edge) * shares
    knots = sizes.cumsum(-1) - sizes - edge
    inside = values.abs() < edge
    within = values.clamp(-edge, edge)
    # Counting the knots below a value finds its bin; the first knot is below all of them.
    index = (within[..., None] >= knots[..., 1 if inverse else 0, 1:]).sum(-1, keepdim=True)
    pair = index[..., None, :].expand(*index.shape[:-1], 2, 1)
    left, low = knots.gather(-1, pair).squeeze(-1).unbind(-1)
    width, height = sizes.gather(-1, pair).squeeze(-1).unbind(-1)
    # The slopes at both edges are 1: their logarithms are the zeros that are padded.
    log_slopes = functional.pad(parameters[..., 2 * bins :], (1, 1))
    start, end = log_slopes.gather(-1, torch.cat([index, index + 1], dim=-1)).exp().unbind(-1)
    steep = height / width
    bend = start + end - 2 * steep
    if inverse:
        above = within - low
        a = height * (steep - start) + above * bend
        b = height * start - above * bend
        c = -steep * above
        # In exact arithmetic the discriminant is positive; rounding may leave a tiny negative one.
        root = (b.square() - 4 * a * c).clamp_min(torch.finfo(values.dtype).tiny).sqrt()
        share = 2 * c / (-b - root)
        mapped = share * width + left
    else:
        share = (within - left) / width
    curve = share * (1 - share)
    denominator = steep + bend * curve
    if not inverse:
        mapped = low + height * (steep * share.square() + start * curve) / denominator
    numerator = end * share.square() + 2 * steep * curve + start * (1 - share).square()
    log_slope = 2 * (steep / denominator).log() + numerator.log()
    if inverse:
        log_slope = -log_slope
    return torch.where(inside, mapped, values), torch.where(inside, log_slope, torch.zeros_like(log_slope))
