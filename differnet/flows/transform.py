"""The contract that every transform of a flow keeps, and the two ways to combine transforms.

    forward(x, context) -> (z, log_det)     data -> latent
    inverse(z, context) -> (x, log_det)     latent -> data

``log_det`` is ``log |det J|`` of the direction taken, one number a sample, so that the two of a
round trip sum to zero.

A call never changes what a transform does. What has to look at data before it is trained (Glow's actnorm)
does so in `Transform.start_from`, which training calls once.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from differnet.records import DiffernetError


class FlowError(DiffernetError):
    """A flow was built, fed or trained in a way that has no meaning."""


class Transform(nn.Module, abc.ABC):
    """An invertible, differentiable map of ``features`` numbers, possibly given a context.

    Args:
        features: Size of the last axis of ``x`` and ``z``.
        context_features: Size of the last axis of ``context``; 0 when there is none.

    Shapes:
        ``x``, ``z``: ``(*batch, features)``. ``context``: last axis ``context_features``, the others
        broadcast over ``batch``. ``log_det``: exactly ``(*batch,)``.
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        if features < 1:
            raise FlowError(
                expected="at least one feature",
                found=f"features={features}",
                remedy="Give the size of the last axis of the vectors.",
            )
        if context_features < 0:
            raise FlowError(
                expected="context_features of 0 (no context) or more",
                found=f"context_features={context_features}",
                remedy="Give the size of the context's last axis.",
            )
        self.features = features
        self.context_features = context_features

    @abc.abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent; return ``z`` and ``log |det dz/dx|``."""

    @abc.abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data; return ``x`` and ``log |det dx/dz|``."""

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map latent to data, the log-determinant left out: what sampling needs.

        The same ``x`` as `inverse` gives, cheaper where the log-determinant has a price of its own.
        """
        return self.inverse(z, context)[0]

    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Choose starting weights by looking at data; most transforms have nothing to choose.

        Called once, before the first step of training. A transform that is made of others passes on
        what reaches each of them.

        Args:
            x: A first batch, ``(n, features)``.
            context: Of the same call.
        """

    def check(self, values: Tensor, context: Tensor | None) -> None:
        """Check that ``values`` and ``context`` fit this transform.

        Args:
            values: ``x`` or ``z``.
            context: Of the same call.

        Raises:
            FlowError: A width, the batch shape or the kind of number is wrong, a context is missing,
                or one is given to a transform without.
        """
        if not values.is_floating_point():
            raise FlowError(
                expected="floating-point vectors",
                found=f"{values.dtype}",
                remedy="Convert them with .float(); densities of whole numbers are not defined here.",
            )
        if values.shape[-1:] != (self.features,):
            raise FlowError(
                expected=f"vectors of {self.features} features on the last axis",
                found=f"shape {tuple(values.shape)}",
                remedy="Pass (*batch, features).",
            )
        if context is not None and context.dtype != values.dtype:
            raise FlowError(
                expected=f"a context of the vectors' own kind, {values.dtype}",
                found=f"{context.dtype}",
                remedy="Convert it with .to(vectors).",
            )
        # A context without axes, like none at all, has no width that could match.
        width = 0 if context is None else (*context.shape[-1:], -1)[0]
        if width != self.context_features or (context is not None and width == 0):
            raise FlowError(
                expected=f"a context of {self.context_features} features",
                found="no context" if context is None else f"a context of shape {tuple(context.shape)}",
                remedy="Pass the context that the flow was built for; a flow never ignores one silently.",
            )
        if context is not None:
            batch, given = values.shape[:-1], context.shape[:-1]
            pairs = zip(reversed(given), reversed(batch), strict=False)
            if len(given) > len(batch) or any(size not in (1, wanted) for size, wanted in pairs):
                raise FlowError(
                    expected=f"a context that broadcasts over the batch {tuple(batch)}",
                    found=f"a context of shape {tuple(context.shape)}",
                    remedy="Expand the vectors, or drop the context's extra axes.",
                )


class Compose(Transform):
    """Apply transforms one after another; a composition is itself a transform.

    ``forward``: ``z = f_n(... f_1(x))``, ``log_det = sum_i log_det_i``.
    ``inverse``: ``x = f_1^-1(... f_n^-1(z))``, the chain reversed.

    Transforms without a context may stand beside conditional ones; only the latter receive it.

    Args:
        transforms: In the order data to latent.

    Example:
        >>> import torch
        >>> from differnet.flows import Compose, Permutation
        >>> flow = Compose([Permutation.reverse(3), Permutation.reverse(3)])
        >>> z, log_det = flow(torch.tensor([1.0, 2.0, 3.0]))
        >>> z.tolist(), log_det.shape
        ([1.0, 2.0, 3.0], torch.Size([]))
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        if not transforms:
            raise FlowError(
                expected="at least one transform",
                found="an empty sequence",
                remedy="Give the transforms from data to latent.",
            )
        widths = {t.features for t in transforms}
        contexts = {t.context_features for t in transforms} - {0}
        if len(widths) != 1 or len(contexts) > 1:
            raise FlowError(
                expected="transforms of one width and at most one context size",
                found=f"widths {sorted(widths)}, context sizes {sorted(contexts)}",
                remedy="Build every transform for the same vectors and the same context.",
            )
        super().__init__(widths.pop(), contexts.pop() if contexts else 0)
        self.transforms = nn.ModuleList(transforms)

    def _chain(self) -> list[Transform]:
        return [t for t in self.transforms if isinstance(t, Transform)]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``f_n(... f_1(x))`` and the sum of the log-determinants."""
        self.check(x, context)
        log_det = x.new_zeros(x.shape[:-1])
        for transform in self._chain():
            x, step = transform(x, context if transform.context_features else None)
            log_det = log_det + step
        return x, log_det

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``f_1^-1(... f_n^-1(z))``."""
        self.check(z, context)
        for transform in reversed(self._chain()):
            z = transform.decode(z, context if transform.context_features else None)
        return z

    def start_from(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let every transform start from what the ones before it make of ``x``."""
        self.check(x, context)
        with torch.no_grad():
            for transform in self._chain():
                given = context if transform.context_features else None
                transform.start_from(x, given)
                x, _ = transform(x, given)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``f_1^-1(... f_n^-1(z))`` and the sum of the log-determinants."""
        self.check(z, context)
        log_det = z.new_zeros(z.shape[:-1])
        for transform in reversed(self._chain()):
            z, step = transform.inverse(z, context if transform.context_features else None)
            log_det = log_det + step
        return z, log_det


class Inverse(Transform):
    """Swap the two directions of a transform.

    With ``f`` the given transform: forward ``z = f^-1(x)``, inverse ``x = f(z)``, each with the
    log-determinant that ``f`` states for that direction.

    Args:
        transform: Its ``inverse`` becomes ``forward`` here, and the other way round.

    Example:
        >>> import torch
        >>> from differnet.flows import ElementwiseAffine, Inverse
        >>> double = Inverse(ElementwiseAffine(shift=torch.zeros(1), scale=torch.tensor([2.0])))
        >>> z, log_det = double(torch.tensor([3.0]))
        >>> z.item(), round(log_det.item(), 4)  # log 2
        (6.0, 0.6931)
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform.features, transform.context_features)
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``f^-1(x)`` and its log-determinant."""
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``f(z)`` and its log-determinant."""
        forward: tuple[Tensor, Tensor] = self.transform(z, context)
        return forward
