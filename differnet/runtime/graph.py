"""A fitted detector folded for judging: network, pooling and local densities as one graph, and the wholes.

What training keeps apart becomes one. A patch's standardising, whitening and permutations are one matrix, its
place a constant that is added to what a coupling's network sees, and all of it convolutions of 1 x 1, which
runtimes are quickest at. The members' global densities are Gaussians whose energies are averaged, and the
mean of quadratic forms is one; their couplings run side by side. These stay outside of the graph, see
`differnet.runtime.wholes`. The figures are those of `differnet.detection.ensemble`, which stays their
definition; ``tests/runtime/test_graph.py`` holds both equal.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from differnet.detection.context import position_code
from differnet.detection.densities import PartDensity, PatchDensity, gaussian_layers
from differnet.detection.detector import Detector
from differnet.detection.ensemble import Ensemble
from differnet.detection.ignoring import IgnoreMask
from differnet.detection.statistics import patch_vectors
from differnet.features import Backbone
from differnet.flows import Compose, ElementwiseAffine, Leading, LowRankWhitening, Permutation
from differnet.flows.coupling import AffineCoupling
from differnet.flows.transform import FlowError, Transform
from differnet.runtime.wholes import FoldedWhole, cell_parts

_LOG_2PI = math.log(2 * math.pi)
# Bound of `differnet.detection.context.patch_context` on a part's coordinates.
_SQUASH = 4.0
# Directions in which the mean of the members' forms differs by less from its diagonal are taken together.
_LEAST_DIRECTION = 2e-3


class Looked(NamedTuple):
    """What the graph says of a batch.

    Attributes:
        statistics: One ``(batch, features)`` a zoom, pooled.
        maps: Of every zoom its ``(batch, rows, columns, channels)`` maps, fine to coarse.
        coordinates: ``(batch, k)`` leading principal coordinates of the part.
        energies: One ``(batch, rows, columns)`` a scale.
        nats: One ``(batch, rows, columns)`` a scale: nll of each patch.
    """

    statistics: tuple[Tensor, ...]
    maps: tuple[Tensor, ...]
    coordinates: Tensor
    energies: tuple[Tensor, ...]
    nats: tuple[Tensor, ...]

    @property
    def flat(self) -> tuple[Tensor, ...]:
        """All of it in one row, which is how runtimes give it."""
        return (*self.statistics, *self.maps, self.coordinates, *self.energies, *self.nats)


class LookingGraph(nn.Module):
    """Network, pooling and local densities of a fitted detector, from network input to `Looked`.

    Args:
        detector: Fitted.

    Raises:
        FlowError: It is not fitted, or a density has other layers than training builds.
    """

    kinds: Tensor
    kinds_offset: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        backbone, ensemble = fitted(detector)
        self.sizes = detector.settings.sizes
        self.scales = tuple(detector.settings.scales)
        self.strides = backbone.strides
        self.network: nn.Module = MapsGraph(backbone)
        self.pools = nn.ModuleList(
            PoolGraph(_counted(detector.ignored_, size // stride))
            for size in self.sizes
            for stride in self.strides
        )
        whole = ensemble.complete.wholes[0]
        form = _Form.of(whole)
        kinds = form.rows[: whole.coordinates] / form.spread[: whole.coordinates, None]
        self.register_buffer("kinds", kinds.float().contiguous())
        self.register_buffer("kinds_offset", -(kinds @ form.mean).float())
        patches: list[PatchGraph] = []
        for density, scale in zip(ensemble.complete.patches, self.scales, strict=True):
            stride = min(self.strides, key=lambda s: abs(math.log2(s / scale.strides[0])))
            patches.append(PatchGraph(density, self.sizes[scale.zoom] // stride))
        self.patches = nn.ModuleList(patches)
        self.eval().requires_grad_(False)

    def forward(self, *pixels: Tensor) -> Looked:
        """Look at one ``(batch, size, size, 3)`` network input a zoom."""
        looked = [self.network(of) for of in pixels]
        pooled = [pool(m) for pool, m in zip(self.pools, (m for maps in looked for m in maps), strict=True)]
        each = len(self.strides)
        statistics = [torch.cat(pooled[i : i + each], 1) for i in range(0, len(pooled), each)]
        coordinates = functional.linear(statistics[0], self.kinds, self.kinds_offset)
        energies, nats = [], []
        for graph, scale in zip(self.patches, self.scales, strict=True):
            vectors = patch_vectors(looked[scale.zoom], self.strides, scale).permute(0, 3, 1, 2)
            energy, nll = graph(vectors, coordinates)
            energies.append(energy)
            nats.append(nll)
        maps = tuple(m.permute(0, 2, 3, 1) for of_zoom in looked for m in of_zoom)
        return Looked(tuple(statistics), maps, coordinates, tuple(energies), tuple(nats))


class FlatGraph(nn.Module):
    """A `LookingGraph` whose outputs stand in one row."""

    def __init__(self, graph: LookingGraph) -> None:
        super().__init__()
        self.looking = graph

    def forward(self, *pixels: Tensor) -> tuple[Tensor, ...]:
        """Return `Looked.flat`."""
        flat: tuple[Tensor, ...] = self.looking(*pixels).flat
        return flat


def fitted(detector: Detector) -> tuple[Backbone, Ensemble]:
    """Return network and densities of a detector.

    Raises:
        FlowError: It is not fitted.
    """
    if detector.backbone_ is None or detector.ensemble_ is None:
        raise FlowError(expected="a fitted detector", found="one that was not", remedy="Call fit first.")
    return detector.backbone_, detector.ensemble_


class MapsGraph(nn.Module):
    """The network alone: ``(batch, size, size, 3)`` to one ``(batch, channels, rows, columns)`` a stride.

    Runtimes on a processor convolve colours that lie side by side: an input whose planes lie behind one
    another they would turn round first.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.network: nn.Module = backbone.network
        self.channels_last = str(getattr(backbone.network, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps = self.network(pixels.permute(0, 3, 1, 2))
        return [m.permute(0, 3, 1, 2) if self.channels_last else m for m in maps]


class PatchGraph(nn.Module):
    """A local density on ``(batch, features, cells, cells)`` maps.

    Features that every coupling sees, or moves, together are one group, and a map of its own: nothing is cut
    up or put together on the way. Where halves take turns, these are the groups.

    Args:
        density: Trained.
        cells: Side of the grid.
    """

    kinds: Tensor

    def __init__(self, density: PatchDensity, cells: int) -> None:
        super().__init__()
        links = _links(density.flow.transform)
        self.features = density.shape.features
        matrix, offset, log_det = _folded(Compose(links[:2]))
        chain = _walked(links[2], self.features) if len(links) > 2 else None
        if chain is not None and not (bool((chain.scale == 1).all()) and bool((chain.shift == 0).all())):
            raise _unknown(links[2])
        couplings = chain.couplings if chain else ()
        groups = _groups(couplings, self.features)
        self.entries = nn.ModuleList(
            _Convolution(matrix[group].float(), offset[group].float()) for group in groups
        )
        code = position_code(cells, cells)
        self.couplings = nn.ModuleList(PatchCouplingGraph(c, groups, code) for c in couplings)
        kinds = [c.context[:, code.shape[-1] :] for c in couplings]
        self.register_buffer("kinds", torch.cat(kinds) if kinds else torch.zeros(0, 0))
        self.constant = 0.5 * self.features * _LOG_2PI - log_det

    def forward(self, vectors: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Return energy, and nll in nats, of every patch, each ``(batch, cells, cells)``."""
        z = [entry(vectors) for entry in self.entries]
        slopes: list[list[Tensor]] = [[] for _ in z]
        if self.couplings:
            kinds = functional.linear(_SQUASH * torch.tanh(coordinates / _SQUASH), self.kinds)
            for coupling, kind in zip(self.couplings, kinds.chunk(len(self.couplings), 1), strict=True):
                for group, (moved, slope) in coupling(z, kind).items():
                    z[group] = moved
                    slopes[group].append(slope)
        square = _sum([each.square().sum(1) for each in z])
        nats = 0.5 * square + self.constant
        if log_dets := [_sum(of_group).sum(1) for of_group in slopes if of_group]:
            nats = nats - _sum(log_dets)
        return square / self.features, nats


class _Convolution(nn.Module):
    """A product of every cell's features with one matrix.

    Args:
        matrix: ``(outputs, features)``.
        offset: ``(outputs,)``; ``None`` for none.
    """

    matrix: Tensor
    offset: Tensor | None

    def __init__(self, matrix: Tensor, offset: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix[:, :, None, None].contiguous())
        self.register_buffer("offset", offset)

    def forward(self, cells: Tensor) -> Tensor:
        """Return ``(batch, outputs, rows, columns)``."""
        return functional.conv2d(cells, self.matrix, self.offset)


def _groups(couplings: Sequence[_Folded], features: int) -> list[Tensor]:
    """Return the numbers of features that every coupling treats alike, group by group."""
    treated: dict[tuple[bool, ...], list[int]] = {}
    for feature in range(features):
        treated.setdefault(tuple(bool(c.moved[feature]) for c in couplings), []).append(feature)
    return [torch.tensor(numbers) for numbers in treated.values()]


class _Folded(NamedTuple):
    """An affine coupling whose features keep their places, as matrices.

    Attributes:
        moved: ``(features,)`` bool; the others are seen.
        seen: ``(hidden, features)``.
        context: ``(hidden, context features)``.
        enter: ``(hidden,)`` bias of both.
        middle: ``(hidden, hidden)`` and its bias.
        says: ``(2 features, hidden)`` and its bias: log scales, then shifts, in units of their bounds.
        input_bound: On what the network sees.
        bounds: On log scale and shift.
    """

    moved: Tensor
    seen: Tensor
    context: Tensor
    enter: Tensor
    middle: Tensor
    middle_bias: Tensor
    says: Tensor
    says_bias: Tensor
    input_bound: float
    bounds: tuple[float, float]

    @classmethod
    def of(cls, coupling: AffineCoupling, place: Tensor, width: int) -> Self:
        """Fold a coupling.

        Args:
            coupling: As trained.
            place: ``(features,)`` where the features stand that it counts.
            width: Features in all.
        """
        net, kept, features = coupling.net, coupling.kept, coupling.features
        enter, hidden, moved = net.enter.weight.detach(), len(net.enter.bias), features - kept
        seen = torch.zeros(hidden, width)
        seen[:, place[:kept]] = enter[:, :kept]
        bounds: Tensor = coupling.feature_map.bounds
        # The smooth bound, b x / (b + |x|), is b times that of x / b with a bound of 1.
        said = (net.leave.weight.detach().reshape(moved, 2, hidden) / bounds[None, :, None]).transpose(0, 1)
        bias = (net.leave.bias.detach().reshape(moved, 2) / bounds).T
        says, says_bias = torch.zeros(2, width, hidden), torch.zeros(2, width)
        says[:, place[kept:]], says_bias[:, place[kept:]] = said, bias
        scale_bound, shift_bound = (float(bound) for bound in bounds)
        is_moved = torch.zeros(width, dtype=torch.bool)
        is_moved[place[kept:]] = True
        return cls(
            is_moved,
            seen,
            enter[:, kept:].contiguous(),
            net.enter.bias.detach(),
            net.middle.weight.detach(),
            net.middle.bias.detach(),
            says.reshape(2 * width, hidden),
            says_bias.flatten(),
            float(net.input_bound),
            (scale_bound, shift_bound),
        )


class PatchCouplingGraph(nn.Module):
    """An affine coupling on maps.

    Args:
        folded: The coupling.
        groups: Numbers of the features of each group of maps.
        code: ``(cells, cells, k)`` where each patch is.
    """

    where: Tensor

    def __init__(self, folded: _Folded, groups: Sequence[Tensor], code: Tensor) -> None:
        super().__init__()
        where = code @ folded.context[:, : code.shape[-1]].T + folded.enter
        self.register_buffer("where", where.permute(2, 0, 1)[None].contiguous())
        self.moved = [i for i, group in enumerate(groups) if bool(folded.moved[group[0]])]
        self.seen = [i for i in range(len(groups)) if i not in self.moved]
        self.enter = nn.ModuleList(_Convolution(folded.seen[:, groups[i]]) for i in self.seen)
        self.middle = _Convolution(folded.middle, folded.middle_bias)
        width = len(folded.moved)
        says, bias = folded.says.reshape(2, width, -1), folded.says_bias.reshape(2, width)
        self.slopes, self.shifts = (
            nn.ModuleList(_Convolution(says[k][groups[i]], bias[k][groups[i]]) for i in self.moved)
            for k in range(2)
        )
        self.input_bound = folded.input_bound
        self.scale_bound, self.shift_bound = folded.bounds

    def forward(self, z: Sequence[Tensor], kind: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Return the features that it moves and their log scales, by the number of their group.

        Args:
            z: Each ``(batch, features, cells, cells)``, one a group.
            kind: ``(batch, hidden)`` what the kind of part adds to what the network sees.
        """
        bounded = [z[i].clamp(-self.input_bound, self.input_bound) for i in self.seen]
        entered = [enter(of) for enter, of in zip(self.enter, bounded, strict=True)]
        hidden = _sum([*entered, self.where, kind[:, :, None, None]]).relu()
        hidden = self.middle(hidden).relu()
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for group, to_slope, to_shift in zip(self.moved, self.slopes, self.shifts, strict=True):
            slope = self.scale_bound * functional.softsign(to_slope(hidden))
            shift = self.shift_bound * functional.softsign(to_shift(hidden))
            found[group] = z[group] * slope.exp() + shift, slope
        return found


@dataclass(frozen=True)
class _Form:
    """The Gaussian of a global density as ``|z|^2`` of statistics ``x``, in float64.

    ``|z|^2 = sum diagonal (x - mean)^2 + sum weights (rows (x - mean))^2``: what a variance of the same size
    in every direction would give, and by how much the leading directions differ.
    """

    mean: Tensor
    diagonal: Tensor
    rows: Tensor
    weights: Tensor
    spread: Tensor
    log_det: float

    @classmethod
    def of(cls, density: PartDensity) -> Self:
        """Return the form of a density."""
        standardise, whitening = gaussian_layers(density.flow)
        scale, spread = standardise.scale.double(), whitening.scale.double()
        features = density.shape.features
        rank = features if density.shape.rank is None else density.shape.rank
        if isinstance(whitening, LowRankWhitening):
            units = torch.zeros(rank, features, dtype=torch.float64)
            units[:, :rank] = torch.diag(1 / spread[:rank])
            axes = whitening.double().inverse(units)[0] - whitening.mean
            whitening.float()
        else:
            axes = whitening.axes.double().T
        floor = spread[-1]
        return cls(
            mean=standardise.shift.double() + scale * whitening.mean.double(),
            diagonal=1 / (scale * floor).square(),
            rows=axes / scale,
            weights=1 / spread[:rank].square() - 1 / floor.square(),
            spread=spread[:rank],
            log_det=float(-scale.log().sum() - spread.log().sum()),
        )


class PoolGraph(nn.Module):
    """Pooling of one map.

    Args:
        count: ``(rows, columns)`` how much of each cell counts.
    """

    share: Tensor
    means: Tensor

    def __init__(self, count: Tensor) -> None:
        super().__init__()
        rows, columns = count.shape
        # Averages over windows are taken of a map as it lies; a product would have it turned round first.
        even = not (rows % 2 or columns % 2) and bool((count == 1).all())
        self.window = (rows // 2, columns // 2) if even else None
        parts = torch.from_numpy(cell_parts(count.numpy())) / count.numel()
        self.register_buffer("share", parts[0].clone())
        self.register_buffer("means", parts.T.contiguous())

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(batch, 6 channels)`` statistics of a ``(batch, channels, rows, columns)`` map."""
        if self.window is not None:
            quadrants = functional.avg_pool2d(features, self.window)
            mean = functional.avg_pool2d(quadrants, 2)
            squares = functional.avg_pool2d((features - mean).square(), self.window)
            deviation = functional.avg_pool2d(squares, 2).sqrt()
            each = [quadrants[:, :, i, j] for i in range(2) for j in range(2)]
            return torch.cat([mean.flatten(1), deviation.flatten(1), *each], 1)
        flat = features.flatten(2)
        means = flat @ self.means
        deviation = ((flat - means[:, :, :1]).square() @ self.share).sqrt()
        pooled = torch.cat([means[:, :, :1], deviation[:, :, None], means[:, :, 1:]], 2)
        return pooled.transpose(1, 2).flatten(1)


def folded_wholes(detector: Detector) -> tuple[FoldedWhole, ...]:
    """Fold the global densities of a fitted detector, one a zoom.

    Raises:
        FlowError: It is not fitted, or a density has other layers than training builds.
    """
    backbone, ensemble = fitted(detector)
    folded: list[FoldedWhole] = []
    for zoom, size in enumerate(detector.settings.sizes):
        counts = [_counted(detector.ignored_, size // stride).numpy() for stride in backbone.strides]
        members = [member.wholes[zoom] for member in ensemble.members]
        arrays = _whole_arrays(members)
        folded.append(FoldedWhole(arrays, counts, backbone.channels))
    return tuple(folded)


def _whole_arrays(members: Sequence[PartDensity]) -> dict[str, NDArray[Any]]:
    """Return the members' mean form and their couplings; see `FoldedWhole`."""
    forms = [_Form.of(member) for member in members]
    features = len(forms[0].mean)
    centre = torch.stack([form.mean for form in forms]).mean(0)
    diagonal = torch.stack([form.diagonal for form in forms]).mean(0)
    slope, constant = torch.zeros_like(centre), 0.0
    for form in forms:
        away = form.mean - centre
        on_rows = form.rows @ away
        slope -= (form.diagonal * away + form.rows.T @ (form.weights * on_rows)) / len(forms)
        constant += float(form.diagonal @ away**2 + form.weights @ on_rows**2) / len(forms)
    rows, weights, rest = _principal(forms, diagonal)
    coupled = [(m, f) for m, f in zip(members, forms, strict=True) if m.shape.couplings]
    width = max((m.shape.leading for m, _ in coupled), default=0)
    chains = [_walked(_links(m.flow.transform)[2], width) for m, _ in coupled]
    axes = torch.zeros(len(coupled), width, features, dtype=torch.float64)
    for place, (member, form) in enumerate(coupled):
        number = member.shape.leading
        axes[place, :number] = form.rows[:number] / form.spread[:number, None]
    own_means = torch.stack([f.mean for _, f in coupled]) if coupled else torch.zeros(0, features)
    arrays = {
        "centre": centre,
        "diagonal": diagonal * (1 + rest) / features,
        "slope": slope / features,
        "rows": rows,
        "weights": weights / features,
        "axes": axes.flatten(0, 1),
        "axes_offset": torch.einsum("mkf,mf->mk", axes, centre - own_means.double()),
        # Two numbers in float64: the constants of the energy and of the nll.
        "constants": torch.tensor(
            [
                constant / features,
                0.5 * features * _LOG_2PI
                - sum(form.log_det for form in forms) / len(forms)
                - sum(chain.log_det for chain in chains) / len(forms),
            ],
            dtype=torch.float64,
        ),
        "members": torch.tensor([len(forms)]),
        "scale": torch.stack([c.scale for c in chains]) if chains else torch.zeros(0, 0),
        "shift": torch.stack([c.shift for c in chains]) if chains else torch.zeros(0, 0),
    }
    for number, some in enumerate(zip(*(chain.couplings for chain in chains), strict=True)):
        stacked = {
            "seen": torch.stack([f.seen.T for f in some]),
            "enter": torch.stack([f.enter for f in some]),
            "middle": torch.stack([f.middle.T for f in some]),
            "middle_bias": torch.stack([f.middle_bias for f in some]),
            "says": torch.stack([f.says.T for f in some]),
            "says_bias": torch.stack([f.says_bias for f in some]),
            "bounds": torch.tensor([some[0].input_bound, *some[0].bounds]),
        }
        arrays |= {f"coupling{number}.{name}": tensor for name, tensor in stacked.items()}
    exact = ("constants", "members")
    return {
        name: np.ascontiguousarray((t if name in exact else t.float()).numpy()) for name, t in arrays.items()
    }


class _Chain(NamedTuple):
    """What follows a Gaussian: an affine map of every feature, then couplings."""

    scale: Tensor
    shift: Tensor
    log_det: float
    couplings: tuple[_Folded, ...]


def _walked(link: Transform, width: int) -> _Chain:
    """Fold a chain of permutations and couplings after one rescaling into couplings that keep places.

    Args:
        link: On the leading features, or on all.
        width: Features that it is to act on; further ones stay as they are.
    """
    scale, shift, log_det = torch.ones(width), torch.zeros(width), 0.0
    couplings: list[_Folded] = []
    transforms = _links(link.transform if isinstance(link, Leading) else link)
    # Where each feature stands, as the transform counts them that comes next.
    place = torch.arange(transforms[0].features)
    for transform in transforms:
        match transform:
            case Permutation():
                place = place[transform.order]
            case AffineCoupling():
                couplings.append(_Folded.of(transform, place, width))
            case ElementwiseAffine() if not couplings:
                zero = torch.zeros(1, transform.features)
                offset, of_it = transform(zero)
                slope = transform(torch.ones_like(zero))[0] - offset
                shift[place], scale[place] = slope[0] * shift[place] + offset[0], slope[0] * scale[place]
                log_det += float(of_it)
            case _:
                raise _unknown(transform)
    return _Chain(scale, shift, log_det, tuple(couplings))


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(operator.add, tensors)


def _counted(ignored: IgnoreMask | None, side: int) -> Tensor:
    """Return how much of each cell of a square map counts."""
    return torch.ones(side, side) if ignored is None else torch.from_numpy(ignored.kept_share(side, side))


def _principal(forms: Sequence[_Form], diagonal: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the principal directions of the mean of the members' forms, and what it is in all the others.

    Most directions are none of them: members that learned from other parts weigh features a little
    differently, so that their mean differs from the diagonal by a thousandth in directions that none of them
    knows of. These get one weight, their mean, which changes the energy of a part by some millionths.

    Returns:
        ``rows`` and ``weights`` of the principal directions, to be used with ``diagonal`` times one plus the
        third.
    """
    rows = torch.cat([form.rows for form in forms])
    weights = torch.cat([form.weights for form in forms]) / len(forms)
    scaled = rows / diagonal.sqrt()
    features = rows.shape[1]
    if 2 * len(rows) <= features:
        # Few directions: the eigenvectors lie in their span, and all others have the value 0.
        basis, upper = torch.linalg.qr(scaled.T)
        values, vectors = torch.linalg.eigh((upper * weights) @ upper.T)
        vectors = basis @ vectors
    else:
        values, vectors = torch.linalg.eigh((scaled.T * weights) @ scaled)
    kept = values.abs() > _LEAST_DIRECTION
    rest = float(values[~kept].sum()) / max(1, features - int(kept.sum()))
    return vectors[:, kept].T * diagonal.sqrt(), values[kept] - rest, rest


def _folded(transform: Transform) -> tuple[Tensor, Tensor, float]:
    """Return matrix, offset and log-determinant of an affine transform, in float64."""
    transform = transform.double()
    zero = torch.zeros(1, transform.features, dtype=torch.float64)
    offset, log_det = transform(zero)
    matrix = transform(torch.eye(transform.features, dtype=torch.float64))[0] - offset
    transform.float()
    return matrix.T.contiguous(), offset[0], float(log_det)


def _links(chain: nn.Module) -> list[Transform]:
    links = chain.transforms if isinstance(chain, Compose) else [chain]
    return [link for link in links if isinstance(link, Transform)]


def _unknown(transform: Transform) -> FlowError:
    return FlowError(
        expected="the layers that training builds",
        found=type(transform).__name__,
        remedy="Train the model with this version.",
    )
