"""Linear transforms that keep volumes: permutations of the features."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from differnet.flows.transform import FlowError, Transform


class Permutation(Transform):
    """Reorder the features. ``z_i = x_{order[i]}``, ``log_det = 0``.

    Args:
        order: ``(features,)`` integers, each of ``0 ... features-1`` once.

    Raises:
        FlowError: A number is missing or stands twice.

    Example:
        >>> import torch
        >>> from differnet.flows import Permutation
        >>> z, log_det = Permutation(torch.tensor([2, 0, 1]))(torch.tensor([1.0, 2.0, 3.0]))
        >>> z.tolist(), log_det.item()
        ([3.0, 1.0, 2.0], 0.0)
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__(int(order.numel()))
        if sorted(order.tolist()) != list(range(order.numel())):
            raise FlowError(
                expected=f"each of 0 to {order.numel() - 1} once",
                found=f"{order.tolist()[:8]}",
                remedy="Use torch.randperm, or Permutation.reverse.",
            )
        self.register_buffer("order", order.long())
        self.register_buffer("back", torch.argsort(order))

    @classmethod
    def reverse(cls, features: int) -> Self:
        """Return the permutation that reverses the features."""
        return cls(torch.arange(features - 1, -1, -1))

    @classmethod
    def random(cls, features: int, generator: torch.Generator) -> Self:
        """Return a permutation drawn from ``generator``."""
        return cls(torch.randperm(features, generator=generator))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``x_{order[i]}`` and 0."""
        self.check(x, context)
        return x.index_select(-1, self.order), x.new_zeros(x.shape[:-1])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``z_{back[i]}``, ``back`` the inverse of ``order``, and 0."""
        self.check(z, context)
        return z.index_select(-1, self.back), z.new_zeros(z.shape[:-1])
