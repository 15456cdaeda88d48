"""The method of the DifferNet paper: a flow on multi-scale features of randomly rotated pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from differnet.detection.method import Judged, Method, MethodError, MethodSettings, Progress
from differnet.flows import ElementwiseAffine, Flow, TrainingPlan, fit_maximum_likelihood, real_nvp

# The paper's three sizes are 448, 224 and 112 pixels: sides divided by these.
SCALES = (1, 2, 4)
# Rotated pictures in the network at once; more made neither direction faster on a CPU.
_CHUNK = 8
# Deviation of the blur as a share of the side: 4 pixels of 256, as PaDiM and PatchCore blur theirs.
_BLUR = 1 / 64


@dataclass(frozen=True)
class DifferNetSettings(MethodSettings):
    """What a person may choose of `DifferNet`; its docstring says what differs from the paper.

    Attributes:
        training_rotations: Random rotations of each good part that are learned from.
        rotations: Evenly spaced rotations over which a picture's strangeness is averaged.
        map_rotations: How many of them, evenly chosen, make its heat map; at most all.
        jitter: Brightness and contrast of training pictures are multiplied by up to ``1 -+ jitter``; 0 for
            products whose light does not vary.
        blocks: Coupling blocks, each of two couplings that together move every feature.
        hidden: Width of the two hidden layers in each coupling.
        scale_bound: Smooth bound on a coupling's log-scale, nats.
        epochs: Each takes as many optimiser steps as batches hold all parts once.
        batch: Feature vectors a step, drawn from all rotations of all parts.
        learning_rate: Peak of the one-cycle schedule.

    Raises:
        MethodError: A number is outside its range; said here, before anything is trained.
    """

    training_rotations: int = 16
    rotations: int = 64
    map_rotations: int = 8
    jitter: float = 0.0
    blocks: int = 8
    hidden: int = 128
    scale_bound: float = 3.0
    epochs: int = 192
    batch: int = 96
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        for name in ("training_rotations", "rotations", "map_rotations", "blocks", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise MethodError(
                    expected=f"{name} of 1 or more", found=str(getattr(self, name)), remedy="Use the default."
                )
        if not 0 <= self.jitter < 1:
            raise MethodError(
                expected="a jitter of 0 to below 1",
                found=str(self.jitter),
                remedy="Use 0, or 0.2 where the light varies.",
            )


class DifferNet(Method):
    """The published DifferNet on this library's flows: the founding method, to compare with.

    A picture is rotated and seen in three sizes; each size's last feature map is averaged over positions,
    and the averages side by side are one vector. A Real NVP learns the density of good parts' vectors by
    maximum likelihood. The strangeness is the mean of ``|z|^2 / 2`` over rotations: as published, the
    log-determinant is left out at inspection though training has it; ``nll`` is the mean of the full
    negative log-density. The heat map is the gradient of ``|z|^2 / 2`` with respect to the pixels of each
    rotated picture, rotated back and averaged over the rotations that show the pixel; then its absolute
    value, summed over colours and blurred.

    What differs from the paper, and why:

    * The network is the one that installs offline (the paper: AlexNet), at 256, 128 and 64 pixels (448, 224,
      112; ``image_size=448`` gives these).
    * Training vectors are made once, of a fixed number of random rotations a part, so that a CPU can afford
      it; the paper draws new rotations each time. Epochs (192), batch (96) and rate (2e-4) are the paper's,
      the optimiser is AdamW with a one-cycle schedule. A rate of 1e-3 lost likelihood on good parts that were
      held out.
    * Couplings have two hidden layers of 128, not three of 2,048, for the same reason. Their bounds are those
      of `AffineCoupling`, not an arctangent; the bound on log-scales is the paper's 3.
    * The vectors are standardised first, because those bounds are in standard deviations.
    * Rotations at inspection are evenly spaced instead of drawn: the same picture has one strangeness.
    * Gradients are averaged before their absolute value is taken, which makes the map that of the mean
      strangeness itself; the paper blurs and takes absolute values first. Neither located better on the
      sample product.
    * Corners that a rotation leaves empty have the mean colour of the network's training pictures.

    Args:
        settings: The network, rotations, the flow and its training.

    Example:
        ``DifferNet(DifferNetSettings(rotations=16)).fit(good_pictures, seed=0).heat_map("part.png")``

    Source: Rudolph, Wandt, Rosenhahn 2021, "Same Same But DifferNet: Semi-Supervised Defect Detection with
    Normalizing Flows", WACV. Written from the paper alone.
    """

    name = "differnet"
    settings: DifferNetSettings

    def __init__(self, settings: DifferNetSettings | None = None) -> None:
        super().__init__(settings or DifferNetSettings())

    @torch.no_grad()
    def _training_vectors(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        copies = pixels.repeat_interleave(self.settings.training_rotations, dim=0)
        if self.settings.jitter:
            copies = self._jittered(copies, generator)
        degrees = 360 * torch.rand(len(copies), generator=generator)
        return self._vectors(rotated(copies, degrees.to(copies)))

    def _jittered(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        _, preprocessing = self._ready()
        drawn = 1 + self.settings.jitter * (2 * torch.rand(2, len(pixels), generator=generator) - 1)
        brightness, contrast = drawn.to(pixels)[..., None, None, None]
        mean, std = (pixels.new_tensor(c)[:, None, None] for c in (preprocessing.mean, preprocessing.std))
        bright = brightness * (pixels * std + mean)
        level = bright.mean((1, 2, 3), keepdim=True)
        jittered: Tensor = (contrast * (bright - level) + level).clamp(0, 1)
        return (jittered - mean) / std

    def _vectors(self, pixels: Tensor) -> Tensor:
        """Return ``(n, 3 * channels)`` of ``(n, 3, size, size)``, with gradients to the pixels."""
        backbone, _ = self._ready()
        found = []
        for some in torch.split(pixels, _CHUNK):
            # Averaging whole blocks of pixels is resizing to a half and a quarter.
            sizes = [functional.avg_pool2d(some, scale) if scale > 1 else some for scale in SCALES]
            found.append(torch.cat([backbone.traced(size)[-1].mean((2, 3)) for size in sizes], dim=1))
        return torch.cat(found)

    def _learn(self, vectors: Tensor, seed: int, progress: Progress | None) -> Flow:
        settings = self.settings
        flow = real_nvp(
            vectors.shape[1],
            # `real_nvp` moves the two halves in turn and permutes after every pair: two are one block.
            couplings=2 * settings.blocks,
            hidden=settings.hidden,
            scale_bound=settings.scale_bound,
            first=ElementwiseAffine.standardising(vectors),
            seed=seed,
        )
        parts = len(vectors) // settings.training_rotations
        steps = settings.epochs * math.ceil(parts / settings.batch)
        plan = TrainingPlan(steps, settings.batch, settings.learning_rate, seed=seed)

        def told(step: int, _: float) -> None:
            if progress is not None:
                progress("density", step + 1, plan.steps)

        return fit_maximum_likelihood(flow, vectors, plan=plan, progress=told)

    def _judge(self, pixels: Tensor, located: bool) -> Judged:
        each = [self._judge_one(picture, located) for picture in pixels]
        strangeness, nll = (torch.stack(figures) for figures in list(zip(*each, strict=True))[:2])
        heat = torch.stack([h for _, _, h in each if h is not None]) if located else None
        return Judged(strangeness, nll, heat)

    def _judge_one(self, picture: Tensor, located: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        degrees = even_degrees(self.settings.rotations).to(picture)
        traced = torch.zeros(len(degrees), dtype=torch.bool)
        if located:
            kept = min(self.settings.map_rotations, len(degrees))
            traced[torch.arange(kept) * len(degrees) // kept] = True
        views = rotated(picture.expand(len(degrees), -1, -1, -1), degrees)
        with torch.no_grad():
            figures = [self._figures(views[~traced])] if not bool(traced.all()) else []
        heat = None
        if located:
            more, gradients = self._figures_and_gradients(views[traced])
            figures.append(more)
            heat = _united(gradients, degrees[traced])
        strangeness, nll = torch.cat(figures, dim=1).double().mean(1).cpu()
        return strangeness, nll, heat

    def _figures(self, views: Tensor) -> Tensor:
        """Return ``|z|^2 / 2`` and nll, ``(2, n)``."""
        flow = self._density()
        found = flow.evidence(self._vectors(views))
        return torch.stack([found.typicality + flow.features / 2, found.nll])

    def _figures_and_gradients(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `_figures` does, and the gradient of ``|z|^2 / 2``, shaped as ``views``."""
        figures, gradients = [], []
        for some in torch.split(views, _CHUNK):
            leaf = some.detach().requires_grad_()
            with torch.enable_grad():
                found = self._figures(leaf)
                # Each picture's strangeness depends on its own pixels only: the sum's gradient has them all.
                gradients.append(torch.autograd.grad(found[0].sum(), leaf)[0])
            figures.append(found.detach())
        return torch.cat(figures, dim=1), torch.cat(gradients)


def even_degrees(count: int) -> Tensor:
    """Return angles that divide the full turn evenly, the first of them 0.

    Example:
        >>> even_degrees(4)
        tensor([  0.,  90., 180., 270.])
    """
    return torch.arange(count) * (360.0 / count)


def rotated(pictures: Tensor, degrees: Tensor) -> Tensor:
    """Turn pictures about their centre, as a clock's hand turns where the degrees are positive.

    Bilinear; what comes from outside the picture is 0.

    Args:
        pictures: ``(n, channels, side, side)``.
        degrees: ``(n,)``.

    Returns:
        Pictures of the same shape.

    Example:
        >>> import torch
        >>> picture = torch.zeros(1, 1, 3, 3)
        >>> picture[0, 0, 0, 1] = 1  # twelve o'clock
        >>> rotated(picture, torch.tensor([90.0])).round()[0, 0].tolist()  # three o'clock
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    angle = degrees * (math.pi / 180)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # From a pixel's place in the turned picture to where it comes from; rows grow downwards.
    back = torch.stack([cosine, sine, zero, -sine, cosine, zero], dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(back, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", align_corners=False)


def _united(gradients: Tensor, degrees: Tensor) -> Tensor:
    """Make one ``(side, side)`` map of ``(n, 3, side, side)`` gradients of rotated pictures."""
    gradients, back = gradients.cpu(), -degrees.cpu()
    # The unrotated picture is always among them, and shows every pixel: nothing is divided by 0.
    seen = rotated(torch.ones_like(gradients[:, :1]), back).sum(0)
    mean = rotated(gradients, back).sum(0) / seen
    size = mean.abs().sum(0).numpy()
    return torch.from_numpy(cv2.GaussianBlur(size, (0, 0), _BLUR * len(size)))
