"""The closed-form Gaussian of a picture's pooled statistics: the floor that any trained density must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from differnet.detection.method import Judged, Method, MethodSettings, Progress
from differnet.flows import Compose, ElementwiseAffine, Flow, shrinkage_whitening


class PooledGaussian(Method):
    """One Gaussian of the mean and standard deviation of every channel at strides 8, 16 and 32.

    The statistics are standardised, the covariance is Ledoit and Wolf's, and the strangeness is half the
    squared Mahalanobis distance: ``|z|^2 / 2`` of the flow that whitens. The nll is that plus a constant,
    and ranks alike. Nothing is random: the seed changes nothing. A density of the whole locates nothing.

    Args:
        settings: The network and the size of its input.

    Example:
        ``PooledGaussian().fit(good_pictures).strangeness(["part.png"])``

    Source: Ledoit, Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """

    name = "gaussian"

    def __init__(self, settings: MethodSettings | None = None) -> None:
        super().__init__(settings or MethodSettings())

    def _training_vectors(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        return self._statistics(pixels)

    def _statistics(self, pixels: Tensor) -> Tensor:
        backbone, _ = self._ready()
        return mean_and_deviation(backbone(pixels))

    def _learn(self, vectors: Tensor, seed: int, progress: Progress | None) -> Flow:
        standard = ElementwiseAffine.standardising(vectors)
        return Flow(Compose([standard, shrinkage_whitening(standard(vectors)[0])]))

    @torch.inference_mode()
    def _judge(self, pixels: Tensor, located: bool) -> Judged:
        flow = self._density()
        found = flow.evidence(self._statistics(pixels))
        return Judged((found.typicality + flow.features / 2).cpu(), found.nll.cpu(), None)


def mean_and_deviation(maps: Sequence[Tensor]) -> Tensor:
    """Return mean and standard deviation over the picture of every channel of every map.

    Args:
        maps: Each ``(batch, channels, rows, columns)``.

    Returns:
        ``(batch, 2 * sum of channels)`` float32, the means of all maps first.

    Example:
        >>> import torch
        >>> mean_and_deviation([torch.tensor([[[[1.0, 3.0]]]]), torch.full((1, 1, 1, 1), 5.0)])
        tensor([[2., 5., 1., 0.]])
    """
    means = [m.float().mean((2, 3)) for m in maps]
    return torch.cat([*means, *(m.float().std((2, 3), correction=0) for m in maps)], dim=1)
