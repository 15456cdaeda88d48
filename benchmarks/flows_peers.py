"""The same flow in differnet, zuko, nflows and normflows: built alike, checked, and timed side by side.

`build` gives one flow of a family in a library: the same number of layers, two hidden layers of the same
width and the same bins, and for the rest (permutations, activations, starting weights) what the library's
documentation does. Where its parts allow another choice, the one that serves the library better is taken.
`check` shows that a peer is a density before it is measured; `compare` times peers in turns.

    python benchmarks/flows_peers.py          check every peer at random weights

The libraries: ``pip install zuko==1.6.0 nflows==0.14 normflows==1.7.3 --no-deps`` and, since nflows imports
it, ``pip install matplotlib``.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from differnet import flows
from differnet.flows import Flow, FlowError

LIBRARIES = ("differnet", "zuko", "nflows", "normflows")

FAMILIES = (
    "planar",
    "radial",
    "nice",
    "real_nvp",
    "glow",
    "maf",
    "iaf",
    "spline_coupling",
    "spline_autoregressive",
    "ffjord",
    "glow_image",
)

# Half-width of the box in which splines act: zuko's and differnet's default, given to the others too.
_EDGE = 5.0

Energy = Callable[[Tensor], Tensor]
LogDensity = Callable[[Tensor, Tensor | None], Tensor]
Sampler = Callable[[int, Tensor | None], Tensor]
DensitySampler = Callable[[int, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Size:
    """What is equal between peers.

    Attributes:
        features: Width of the vectors; of pictures, the square of their side.
        context_features: Width of the context; 0 for none.
        layers: Layers of the flow; of pictures, steps a level on two levels; of ffjord, unused.
        hidden: Width of the two hidden layers of each network.
        bins: Of splines.
        seed: Of weights and permutations.
    """

    features: int
    context_features: int
    layers: int
    hidden: int
    bins: int
    seed: int

    @property
    def context(self) -> int | None:
        """Width of the context as nflows and normflows want it: ``None`` for none."""
        return self.context_features or None

    @property
    def side(self) -> int:
        """Side of the square, one-channel picture."""
        side = math.isqrt(self.features)
        if side * side != self.features or side % 4:
            raise FlowError(
                expected="a square picture whose side is a multiple of 4",
                found=f"{self.features} features",
                remedy="Flatten pictures of 1 x side x side.",
            )
        return side


@dataclass(frozen=True)
class Peer:
    """One flow in one library.

    Attributes:
        library: Of `LIBRARIES`.
        family: Of `FAMILIES`.
        model: Holds the parameters.
        log_prob: ``(x, context) -> (n,)``; raises `FlowError` where the library cannot.
        draw: ``(n, context) -> (n, features)``, the library's own sampling.
        rsample_and_log_prob: ``(n, context) -> (x, log_prob)``, differentiable.
        start: ``(x, context)``: data-dependent start, where there is one.
        note: What a reader of figures should know.
    """

    library: str
    family: str
    model: nn.Module
    log_prob: LogDensity
    draw: Sampler
    rsample_and_log_prob: DensitySampler
    start: Callable[[Tensor, Tensor | None], None]
    note: str = ""

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """Draw ``n`` vectors without gradients; ``context`` has a row for each."""
        with torch.no_grad():
            return self.draw(n, context)


# Why a library has no such family. Everything else is built.
ABSENT: dict[tuple[str, str], str] = {
    ("zuko", "planar"): "zuko has no planar flow",
    ("zuko", "radial"): "zuko has no radial flow",
    ("zuko", "glow_image"): "zuko's flows are of vectors",
    ("nflows", "planar"): "nflows has no planar flow",
    ("nflows", "radial"): "nflows has no radial flow",
    ("nflows", "ffjord"): "nflows has no continuous flow",
    ("normflows", "ffjord"): "normflows has no continuous flow",
}

# Families that take a context in a library; differnet and zuko take one in each they have.
_CONDITIONAL: dict[str, frozenset[str]] = {
    "nflows": frozenset(
        ("nice", "real_nvp", "glow", "maf", "iaf", "spline_coupling", "spline_autoregressive")
    ),
    "normflows": frozenset(("maf", "iaf", "spline_coupling", "spline_autoregressive")),
}


def reason(library: str, family: str, context_features: int = 0) -> str | None:
    """Return why `build` gives ``None``, or ``None`` where it builds."""
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if (library, family) in ABSENT:
        return ABSENT[library, family]
    if context_features and family not in _CONDITIONAL.get(library, frozenset(FAMILIES)):
        return f"{library}'s {family} takes no context"
    if context_features and family == "glow_image":
        return "pictures are compared without a context"
    return None


def build(
    library: str,
    family: str,
    features: int,
    context_features: int = 0,
    *,
    layers: int = 5,
    hidden: int = 64,
    bins: int = 8,
    seed: int = 0,
) -> Peer | None:
    """Build one flow in one library, or return ``None`` where `reason` says why.

    Raises:
        FlowError: Another library or family.
    """
    if library not in LIBRARIES or family not in FAMILIES:
        raise FlowError(
            expected=f"a library of {', '.join(LIBRARIES)} and a family of {', '.join(FAMILIES)}",
            found=f"{library}, {family}",
            remedy="Choose from these.",
        )
    if reason(library, family, context_features) is not None:
        return None
    size = Size(features, context_features, layers, hidden, bins, seed)
    makers = {"differnet": _differnet, "zuko": _zuko, "nflows": _nflows, "normflows": _normflows}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return makers[library](family, size)


# Of differnet: the preset of each family, and its arguments.
PRESETS: dict[str, tuple[Callable[..., Flow], Callable[[Size], dict[str, Any]]]] = {
    "planar": (flows.planar, lambda s: {"layers": s.layers, "fast_sampling": True}),
    "radial": (flows.radial, lambda s: {"layers": s.layers, "fast_sampling": True}),
    "nice": (flows.nice, lambda s: {"couplings": s.layers, "hidden": s.hidden}),
    "real_nvp": (flows.real_nvp, lambda s: {"couplings": s.layers, "hidden": s.hidden}),
    "glow": (flows.glow, lambda s: {"steps": s.layers, "hidden": s.hidden}),
    "maf": (flows.maf, lambda s: {"layers": s.layers, "hidden": s.hidden}),
    "iaf": (flows.iaf, lambda s: {"layers": s.layers, "hidden": s.hidden}),
    "spline_coupling": (
        flows.spline_coupling,
        lambda s: {"couplings": s.layers, "hidden": s.hidden, "bins": s.bins},
    ),
    "spline_autoregressive": (
        flows.spline_autoregressive,
        lambda s: {"layers": s.layers, "hidden": s.hidden, "bins": s.bins},
    ),
    "ffjord": (flows.ffjord, lambda s: {"hidden": s.hidden}),
    "glow_image": (
        flows.glow_image,
        lambda s: {"levels": 2, "steps": s.layers, "hidden": s.hidden},
    ),
}


def _differnet(family: str, size: Size) -> Peer:
    preset, arguments = PRESETS[family]
    width: Any = (1, size.side, size.side) if family == "glow_image" else size.features
    flow = preset(width, size.context_features, seed=size.seed, **arguments(size))
    return Peer(
        "differnet",
        family,
        flow,
        flow.log_prob,
        lambda n, context: flow.sample((n,), context),
        lambda n, context: flow.rsample_and_log_prob((n,), context),
        flow.transform.start_from,
    )


def _zuko(family: str, size: Size) -> Peer:
    zuko: Any = importlib.import_module("zuko")
    shared = {
        "features": size.features,
        "context": size.context_features,
        "hidden_features": (size.hidden, size.hidden),
    }
    stacked = {**shared, "transforms": size.layers}
    splines = {
        "univariate": zuko.transforms.MonotonicRQSTransform,
        "shapes": [(size.bins,), (size.bins,), (size.bins - 1,)],
    }
    note = ""
    if family == "nice":
        flow = zuko.flows.NICE(**stacked, univariate=zuko.transforms.AdditiveTransform, shapes=[()])
        flow.transform.transforms.append(_zuko_affine(zuko, size.features))
    elif family == "real_nvp":
        flow = zuko.flows.RealNVP(**stacked)
    elif family == "glow":
        chain: list[Any] = []
        for i in range(size.layers):
            mixing = torch.eye(size.features) + 0.01 * torch.randn(size.features, size.features)
            chain += [
                _zuko_affine(zuko, size.features),
                zuko.lazy.UnconditionalTransform(zuko.transforms.LULinearTransform, mixing),
                zuko.flows.GeneralCouplingTransform(**shared, mask=torch.arange(size.features) % 2 == i % 2),
            ]
        flow = zuko.flows.Flow(chain, zuko.flows.RealNVP(size.features).base)
        note = "no ActNorm: its place is taken by a learned affine layer that starts as the identity"
    elif family in ("maf", "iaf"):
        flow = zuko.flows.MAF(**stacked)
        if family == "iaf":
            # The pattern of zuko's documentation.
            flow = zuko.flows.Flow(flow.transform.inv, flow.base)
    elif family == "spline_coupling":
        # Couplings proper, faster than NSF(passes=2), which computes a masked network of all features.
        flow = zuko.flows.NICE(**stacked, **splines)
    elif family == "spline_autoregressive":
        flow = zuko.flows.NSF(**stacked, bins=size.bins)
    else:
        flow = zuko.flows.CNF(**shared)
        note = "exact trace, adaptive checkpoint adjoint, tolerances as they come"
    return Peer(
        "zuko",
        family,
        flow,
        lambda x, context: flow(context).log_prob(x),
        lambda n, context: flow(context).sample((n,) if context is None else ()),
        lambda n, context: flow(context).rsample_and_log_prob((n,) if context is None else ()),
        lambda x, context: None,
        note,
    )


def _zuko_affine(zuko: Any, features: int) -> Any:
    def affine(shift: Tensor, scale: Tensor) -> Any:
        return zuko.transforms.DependentTransform(zuko.transforms.MonotonicAffineTransform(shift, scale), 1)

    return zuko.lazy.UnconditionalTransform(affine, torch.zeros(features), torch.zeros(features))


class Perceptron(nn.Module):
    """Two hidden layers with ReLU, for nflows' couplings, which bring no plain network with a context.

    Its own residual networks have three products of hidden width for two ReLUs: slower at equal width.
    """

    def __init__(self, before: int, after: int, *, hidden: int, context_features: int) -> None:
        super().__init__()
        # nflows divides spline parameters by the root of this, where a network states it.
        self.hidden_features = hidden
        self.layers = nn.Sequential(
            nn.Linear(before + context_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, after),
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the parameters of the moved features."""
        said: Tensor = self.layers(x if context is None else torch.cat([x, context], dim=-1))
        return said


class Convolutions(nn.Module):
    """Glow's network of three convolutions, 3, 1 and 3 wide, the last one zero."""

    def __init__(self, before: int, after: int, *, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(before, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, after, 3, padding=1),
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the parameters of the moved channels."""
        said: Tensor = self.layers(x)
        return said


def _nflows(family: str, size: Size) -> Peer:
    transforms: Any = importlib.import_module("nflows.transforms")
    mask = importlib.import_module("nflows.utils.torchutils").create_alternating_binary_mask
    if family == "glow_image":
        return _nflows_image(size)
    net = partial(Perceptron, hidden=size.hidden, context_features=size.context_features)
    # Without a context: two hidden layers. The plain blocks take none, the residual block, which does,
    # has two ReLUs too.
    made = {
        "features": size.features,
        "hidden_features": size.hidden,
        "context_features": size.context,
        "num_blocks": 1,
        "use_residual_blocks": size.context is not None,
    }
    spline = {"num_bins": size.bins, "tails": "linear", "tail_bound": _EDGE}
    chain: list[Any] = []
    for i in range(size.layers):
        alternating = mask(size.features, even=i % 2 == 0)
        if family == "nice":
            chain += [transforms.AdditiveCouplingTransform(alternating, net)]
        elif family == "real_nvp":
            chain += [transforms.AffineCouplingTransform(alternating, net)]
        elif family == "glow":
            chain += [
                transforms.ActNorm(size.features),
                transforms.RandomPermutation(size.features),
                transforms.LULinear(size.features, identity_init=True),
                transforms.AffineCouplingTransform(alternating, net),
            ]
        elif family in ("maf", "iaf"):
            layer = transforms.MaskedAffineAutoregressiveTransform(**made)
            chain += [
                transforms.ReversePermutation(size.features),
                transforms.InverseTransform(layer) if family == "iaf" else layer,
            ]
        else:
            # Permutations between, as differnet has them; LU layers would help the likelihood and cost time.
            chain.append(transforms.RandomPermutation(size.features))
            if family == "spline_coupling":
                chain.append(
                    transforms.PiecewiseRationalQuadraticCouplingTransform(alternating, net, **spline)
                )
            else:
                layer = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(**made, **spline)
                chain.append(layer)
    if family == "nice":
        chain.append(_nflows_scaling(transforms, size.features))
    flow = _nflows_flow(transforms.CompositeTransform(chain), size.features)

    def draw(n: int, context: Tensor | None) -> Tensor:
        # With a context nflows draws so many for each row of it.
        drawn: Tensor = flow.sample(n) if context is None else flow.sample(1, context).squeeze(1)
        return drawn

    def rsample_and_log_prob(n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if context is None:
            x, log_prob = flow.sample_and_log_prob(n)
            return x, log_prob
        x, log_prob = flow.sample_and_log_prob(1, context)
        return x.squeeze(1), log_prob.squeeze(1)

    return Peer("nflows", family, flow, flow.log_prob, draw, rsample_and_log_prob, _started(flow))


def _nflows_flow(transform: Any, features: int) -> Any:
    flows: Any = importlib.import_module("nflows.flows")
    normal: Any = importlib.import_module("nflows.distributions").StandardNormal
    return flows.Flow(transform, normal([features]))


def _nflows_scaling(transforms: Any, features: int) -> Any:
    """Return NICE's last layer: an ActNorm that counts as started is a learned affine layer."""
    scaling = transforms.ActNorm(features)
    scaling.initialized.fill_(True)
    return scaling


def _nflows_image(size: Size) -> Peer:
    transforms: Any = importlib.import_module("nflows.transforms")
    mask = importlib.import_module("nflows.utils.torchutils").create_mid_split_binary_mask
    levels = 2
    multiscale = transforms.MultiscaleCompositeTransform(num_transforms=levels)
    shape = (1, size.side, size.side)
    for _ in range(levels):
        squeeze = transforms.SqueezeTransform()
        shape = squeeze.get_output_shape(*shape)
        chain = [squeeze]
        for _ in range(size.layers):
            chain += [
                transforms.ActNorm(shape[0]),
                transforms.OneByOneConvolution(shape[0]),
                transforms.AffineCouplingTransform(mask(shape[0]), partial(Convolutions, hidden=size.hidden)),
            ]
        shape = multiscale.add_transform(transforms.CompositeTransform(chain), shape)
    flow = _nflows_flow(multiscale, size.features)
    picture = (1, size.side, size.side)

    def rsample_and_log_prob(n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_prob = flow.sample_and_log_prob(n)
        return x.flatten(1), log_prob

    return Peer(
        "nflows",
        "glow_image",
        flow,
        lambda x, context: flow.log_prob(x.reshape(-1, *picture)),
        lambda n, context: flow.sample(n).flatten(1),
        rsample_and_log_prob,
        lambda x, context: _started(flow)(x.reshape(-1, *picture), context),
    )


class Reversed(nn.Module):
    """A layer of normflows with its two directions swapped, context passed on.

    normflows' own Reverse passes no context. Its MaskedAffineAutoregressive computes samples in one
    pass and densities feature by feature: it is an IAF, and a MAF when swapped.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, context: Tensor | None = None) -> Any:
        """Map latent to data by the layer's inverse."""
        return self.layer.inverse(z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> Any:
        """Map data to latent by the layer's forward."""
        return self.layer.forward(x, context)


def _normflows(family: str, size: Size) -> Peer:
    nf: Any = importlib.import_module("normflows")
    if family == "glow_image":
        return _normflows_image(size)
    features, hidden = size.features, size.hidden
    kept, moved = (features + 1) // 2, features // 2
    note = ""
    chain: list[Any] = []
    for i in range(size.layers):
        if family == "planar":
            chain.append(nf.flows.Planar((features,)))
        elif family == "radial":
            chain.append(nf.flows.Radial((features,)))
        elif family in ("nice", "real_nvp"):
            scale = family == "real_nvp"
            net = nf.nets.MLP([kept, hidden, hidden, moved * (2 if scale else 1)], init_zeros=True)
            chain += [nf.flows.AffineCouplingBlock(net, scale=scale), nf.flows.Permute(features, mode="swap")]
        elif family == "glow":
            net = nf.nets.MLP([kept, hidden, hidden, 2 * moved], init_zeros=True)
            chain += [
                nf.flows.AffineCouplingBlock(net, scale_map="sigmoid"),
                nf.flows.InvertibleAffine(features, use_lu=True),
                nf.flows.ActNorm((features,)),
            ]
        elif family in ("maf", "iaf"):
            layer = nf.flows.MaskedAffineAutoregressive(features, hidden, size.context, num_blocks=1)
            chain += [Reversed(layer) if family == "maf" else layer, nf.flows.Permute(features, mode="swap")]
            note = "one residual block: two ReLUs, three products of hidden width"
        else:
            kind = "Coupled" if family == "spline_coupling" else "Autoregressive"
            spline = getattr(nf.flows, f"{kind}RationalQuadraticSpline")
            swapped = {"reverse_mask": i % 2 == 1} if family == "spline_coupling" else {}
            chain += [
                spline(
                    features,
                    1,
                    hidden,
                    num_context_channels=size.context,
                    num_bins=size.bins,
                    tail_bound=_EDGE,
                    **swapped,
                ),
                nf.flows.Permute(features, mode="shuffle"),
            ]
            note = "one residual block: two ReLUs, three products of hidden width"
    if family == "nice":
        chain.append(nf.flows.AffineConstFlow((features,), shift=False))
    base = nf.distributions.DiagGaussian(features, trainable=False)
    if size.context is None:
        flow: Any = nf.NormalizingFlow(base, chain)
    else:
        flow = nf.ConditionalNormalizingFlow(base, chain)

    def given(context: Tensor | None) -> dict[str, Tensor]:
        return {} if context is None else {"context": context}

    def log_prob(x: Tensor, context: Tensor | None) -> Tensor:
        if family in ("planar", "radial"):
            raise FlowError(
                expected="a flow whose densities have an inverse",
                found=f"normflows' {family} flow, which has none",
                remedy="Use it for reverse KL.",
            )
        logarithm: Tensor = flow.log_prob(x, **given(context))
        return logarithm

    return Peer(
        "normflows",
        family,
        flow,
        log_prob,
        lambda n, context: flow.sample(n, **given(context))[0],
        lambda n, context: flow.sample(n, **given(context)),
        (lambda x, context: None) if family in ("planar", "radial") else _started(flow),
        note,
    )


def _normflows_image(size: Size) -> Peer:
    nf: Any = importlib.import_module("normflows")
    # Levels are counted from the latent to the picture.
    levels, side = 2, size.side
    bases, chains, merges = [], [], []
    for i in range(levels):
        channels = 2 ** (levels + 1 - i)
        steps = [nf.flows.GlowBlock(channels, size.hidden) for _ in range(size.layers)]
        chains.append([*steps, nf.flows.Squeeze()])
        across = side // 2 ** (levels - i)
        if i > 0:
            merges.append(nf.flows.Merge())
        bases.append(nf.distributions.GlowBase((channels if i == 0 else channels // 2, across, across)))
    flow = nf.MultiscaleFlow(bases, chains, merges, class_cond=False)

    def picture(x: Tensor) -> Tensor:
        return x.reshape(-1, 1, side, side)

    def rsample_and_log_prob(n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_prob = flow.sample(n)
        return x.flatten(1), log_prob

    return Peer(
        "normflows",
        "glow_image",
        flow,
        lambda x, context: flow.log_prob(picture(x), None),
        lambda n, context: flow.sample(n)[0].flatten(1),
        rsample_and_log_prob,
        lambda x, context: _start_normflows_image(flow, picture(x)),
    )


def _start_normflows_image(flow: Any, x: Tensor) -> None:
    with torch.no_grad():
        flow.log_prob(x, None)


def _started(flow: Any) -> Callable[[Tensor, Tensor | None], None]:
    """Return a start for nflows and normflows: their ActNorms start at the first batch they see."""

    def start(x: Tensor, context: Tensor | None) -> None:
        flow.train()
        with torch.no_grad():
            flow.log_prob(x) if context is None else flow.log_prob(x, context)

    return start


@dataclass(frozen=True)
class Checked:
    """How far a peer with random weights is from being a density, on two features.

    Attributes:
        integral: Of the density over the grid.
        share: Of samples within the grid; what the integral should be.
        entropy_gap: Mean nll of samples within the grid less the integral of ``-p log p``, in standard
            errors of the former.
        log_det_error: Largest difference of a log-determinant from the float64 Jacobian's; only where a
            density has no inverse to integrate with, and for pictures.
        sound: Whether the figures agree.
    """

    integral: float | None
    share: float | None
    entropy_gap: float | None
    log_det_error: float | None
    sound: bool


def perturb(peer: Peer, deviation: float = 0.15, seed: int = 1) -> None:
    """Add noise to every weight, in place: a flow that is the identity passes any check."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(deviation * torch.randn(parameter.shape, generator=generator).to(parameter))


def check(peer: Peer, context: Tensor | None = None, *, samples: int = 20_000, seed: int = 1) -> Checked:
    """Check a perturbed peer: that its density integrates to 1 and that its samples follow it.

    Args:
        peer: Of two features, or of pictures. Its weights are changed.
        context: One row, ``(context_features,)``.
        samples: How many to draw.
        seed: Of weights and samples.

    Raises:
        FlowError: The peer has another width, so that its density cannot be laid on a grid.
    """
    torch.manual_seed(seed)
    pictures = peer.family == "glow_image"
    peer.start(torch.randn(256, 16 if pictures else 2), None if context is None else context.expand(256, -1))
    perturb(peer, seed=seed)
    peer.model.eval()
    if pictures or (peer.library == "normflows" and peer.family in ("planar", "radial")):
        error = _log_det_error(peer)
        # Float64 with Jacobians of 16 x 16 at most leaves 1e-12; a wrong term is of order 1.
        return Checked(None, None, None, error, error <= 1e-8)
    rows = None if context is None else context.expand(samples, -1)
    drawn = peer.sample(samples, rows)
    if drawn.shape != (samples, 2):
        raise FlowError(
            expected="a peer of two features", found=f"samples {tuple(drawn.shape)}", remedy="Build it so."
        )
    with torch.no_grad():
        nll = -peer.log_prob(drawn, rows).double()
    reach = 7.0
    within = (drawn.abs() <= reach).all(-1)
    counted = torch.where(within, nll, torch.zeros_like(nll))
    share = float(within.double().mean())
    error = max(float(counted.std()) / samples**0.5, 1e-12)
    chance = 4 * max(share * (1 - share) / samples, 0.0) ** 0.5
    # Random weights can make ridges narrower than the first grid's step. A finer grid resolves them, and
    # leaves a density that does not integrate to 1 as wrong as it is.
    for step in (0.05, 0.0125):
        axis = torch.arange(-reach, reach + step / 2, step)
        strips = [axis[start : start + 50] for start in range(0, len(axis), 50)]
        logarithm = torch.cat([_on_grid(peer, axis, strip, context) for strip in strips])
        integral = float(logarithm.exp().sum()) * step**2
        gap = (float(counted.mean()) + float((logarithm.exp() * logarithm).sum()) * step**2) / error
        # Half a per cent for the grid, as the densities of differnet itself are tested; four standard
        # errors for the samples.
        sound = abs(integral - share) <= 0.005 + chance and abs(gap) <= 4 and bool(nll.isfinite().all())
        if sound:
            break
    return Checked(integral, share, gap, None, sound)


def _on_grid(peer: Peer, across: Tensor, down: Tensor, context: Tensor | None) -> Tensor:
    points = torch.cartesian_prod(down, across)
    with torch.no_grad():
        return peer.log_prob(points, None if context is None else context.expand(len(points), -1)).double()


def _log_det_error(peer: Peer) -> float:
    """Return the largest error of the log-determinants that a peer states, against its Jacobian."""
    model: Any = peer.model.double()
    if peer.family != "glow_image":
        points = torch.randn(50, 2, dtype=torch.float64)

        def direction(v: Tensor) -> tuple[Tensor, Tensor]:
            # normflows keeps sums of log-determinants in float32 on this path.
            x, log_det = v[None], torch.zeros(1, dtype=torch.float64)
            for layer in model.flows:
                x, stated = layer(x)
                log_det = log_det + stated
            return x[0], log_det[0]
    else:
        side = 4
        points = torch.randn(5, side * side, dtype=torch.float64)

        def direction(v: Tensor) -> tuple[Tensor, Tensor]:
            picture = v.reshape(1, 1, side, side)
            if peer.library == "nflows":
                z, log_det = model._transform(picture)
            elif peer.library == "normflows":
                parts, log_det = model.inverse_and_log_det(picture)
                z = torch.cat([part.flatten(1) for part in parts], dim=-1)
            else:
                z, log_det = model.transform(v[None])
            return z[0], log_det[0]

    errors = []
    for point in points:
        point = point.requires_grad_()
        mapped, log_det = direction(point)
        rows = [torch.autograd.grad(value, point, retain_graph=True)[0] for value in mapped]
        wanted = torch.linalg.slogdet(torch.stack(rows)).logabsdet
        errors.append(abs(float(log_det.detach() - wanted)))
    return max(errors)


def compare(
    builders: dict[str, Callable[[], Peer]],
    x: Tensor,
    context: Tensor | None = None,
    *,
    repeats: int = 15,
    seed: int = 0,
    batch: int = 256,
    count: int = 4096,
    energy: Energy | None = None,
    trained: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Time a training step, log_prob and sampling of peers, taking turns in one process.

    In every repeat each peer has its turn, in an order drawn anew; a ratio is of two times of the same
    repeat, so that a machine that slows down slows both.

    Args:
        builders: By library; one must be ``differnet``.
        x: ``(n, features)``, what is trained on and judged.
        context: ``(n, context_features)``, or ``None``.
        repeats: Turns.
        seed: Of the order of turns.
        batch: Vectors a training step: forward, backward and Adam.
        count: Vectors of log_prob and of sampling, both without gradients.
        energy: If given, a step is one of reverse KL to ``exp(-energy)``, and log_prob is left out where
            the library has none.
        trained: Steps that each peer is trained for before anything is timed. The cost of a continuous flow
            depends on its weights: at the start it measures the initialisation.

    Returns:
        By operation (``step``, ``log_prob``, ``sample``) and library: ``milliseconds`` (median),
        ``low`` and ``high`` (10 % and 90 % quantiles), and ``ratio``, ``ratio_low``, ``ratio_high``: time of
        the library over time of differnet, above 1 where differnet is faster.

    Raises:
        FlowError: ``differnet`` is not among the builders, or nothing is to be repeated.
    """
    if "differnet" not in builders or repeats < 1:
        raise FlowError(
            expected="differnet among the builders and at least one repeat",
            found=f"{', '.join(builders)}; {repeats=}",
            remedy="Ratios are taken to differnet's times.",
        )
    actions: dict[str, dict[str, Callable[[], object]]] = {"step": {}, "log_prob": {}, "sample": {}}
    models = {}
    for name, builder in builders.items():
        peer = builder()
        peer.start(x[:count], None if context is None else context[:count])
        models[name] = peer.model
        for operation, action in _actions(peer, x, context, batch, count, energy).items():
            actions[operation][name] = action
        models[name].train()
        for _ in range(trained):
            actions["step"][name]()
    order = np.random.default_rng(seed)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for operation, by_name in actions.items():
        if "differnet" not in by_name:
            continue
        for name in by_name:
            models[name].train(operation == "step")
        calls = {name: _calls(action) for name, action in by_name.items()}
        seconds: dict[str, list[float]] = {name: [] for name in by_name}
        for _ in range(repeats):
            for name in order.permutation(list(by_name)):
                seconds[name].append(_seconds(by_name[name], calls[name]))
        figures[operation] = {name: _summary(seconds[name], seconds["differnet"]) for name in by_name}
    return figures


def _actions(
    peer: Peer, x: Tensor, context: Tensor | None, batch: int, count: int, energy: Energy | None
) -> dict[str, Callable[[], object]]:
    """Return what is timed; each call does the operation once."""
    optimiser = torch.optim.Adam(peer.parameters(), lr=1e-3)
    places = torch.arange(count) % len(x)
    many, given = x[places], None if context is None else context[places]
    starts = itertools.cycle(range(0, max(len(x) - batch, 1), batch))

    def step() -> None:
        start = next(starts)
        rows = None if context is None else context[start : start + batch]
        if energy is None:
            loss = -peer.log_prob(x[start : start + batch], rows).mean()
        else:
            drawn, log_prob = peer.rsample_and_log_prob(batch, rows)
            loss = (log_prob + energy(drawn)).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()

    def log_prob() -> None:
        with torch.no_grad():
            peer.log_prob(many, given)

    def sample() -> None:
        peer.sample(count, given)

    found: dict[str, Callable[[], object]] = {"step": step, "sample": sample}
    try:
        log_prob()
    except FlowError:
        return found
    return {**found, "log_prob": log_prob}


def _calls(action: Callable[[], object]) -> int:
    """Return how many calls make a turn of 20 ms or more, 50 at most; the first two are not counted."""
    action()
    return max(1, min(50, math.ceil(0.02 / max(_seconds(action, 2), 1e-6))))


def _seconds(action: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - begun) / calls


def _summary(seconds: list[float], reference: list[float]) -> dict[str, float]:
    times, ratios = np.array(seconds), np.array(seconds) / np.array(reference)
    low, middle, high = np.quantile(times, [0.1, 0.5, 0.9]) * 1000
    ratio_low, ratio, ratio_high = np.quantile(ratios, [0.1, 0.5, 0.9])
    return {
        "milliseconds": float(middle),
        "low": float(low),
        "high": float(high),
        "ratio": float(ratio),
        "ratio_low": float(ratio_low),
        "ratio_high": float(ratio_high),
    }


def main() -> int:
    """Check every peer with random weights, with and without a context; return 1 if one is not sound."""
    torch.set_num_threads(1)
    # nflows and normflows call functions that torch has since replaced, and torch says so.
    for older in ("torch.triangular_solve", "torch.lu"):
        warnings.filterwarnings("ignore", message=f"{older} is deprecated")
    unsound = 0
    for family in FAMILIES:
        for library in LIBRARIES:
            for width in (0, 2):
                features = 16 if family == "glow_image" else 2
                why = reason(library, family, width)
                if why is not None:
                    print(f"{family:22} {library:10} context {width}: none ({why})")
                    continue
                peer = build(library, family, features, width, layers=3, hidden=16, seed=1)
                context = torch.tensor([0.5, -1.0]) if width else None
                try:
                    found: object = check(peer, context) if peer is not None else None
                    unsound += isinstance(found, Checked) and not found.sound
                except (
                    RuntimeError,
                    ValueError,
                    AttributeError,
                    NotImplementedError,
                    AssertionError,
                ) as error:
                    found, unsound = f"raises {type(error).__name__}: {error}", unsound + 1
                print(f"{family:22} {library:10} context {width}: {found}")
    return int(unsound > 0)


if __name__ == "__main__":
    sys.exit(main())
