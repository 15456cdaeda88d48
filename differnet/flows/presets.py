"""Flows ready to train: one lower-case function a family."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import nn

from differnet.flows.autoregressive import AffineAutoregressive, SplineAutoregressive
from differnet.flows.coupling import AdditiveCoupling, AffineCoupling, SplineCoupling
from differnet.flows.density import Flow
from differnet.flows.elementwise import Scaling
from differnet.flows.linear import Permutation
from differnet.flows.planar_radial import Planar, Radial
from differnet.flows.transform import Compose, FlowError, Inverse, Transform

NICE_START = 0.01
"""Deviation of the last layers' weights that `nice` starts with."""

_DRAWING = threading.Lock()


def real_nvp(
    features: int,
    context_features: int = 0,
    *,
    couplings: int = 6,
    hidden: int = 96,
    scale_bound: float = 1.0,
    shift_bound: float = 8.0,
    input_bound: float = 8.0,
    first: Transform | None = None,
    redrawn: bool = True,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) Real NVP: ``first``, then couplings with permutations between.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        couplings: Number of affine couplings; 0 leaves ``first`` alone.
        hidden: Width of each coupling's network.
        scale_bound: See `AffineCoupling`.
        shift_bound: See `AffineCoupling`.
        input_bound: See `AffineCoupling`.
        first: A transform before the couplings, such as `Whitening`; not trained when it has no
            parameters.
        redrawn: Whether the features are dealt into halves anew after every other coupling. Otherwise the
            same halves take turns, which leaves more between the features of a half to the networks, and
            lets whoever computes the flow keep each half by itself.
        seed: Of permutations and weights.

    Returns:
        A flow whose density is, until it is trained, that of ``first`` alone: the couplings start
        as the identity.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Example:
        >>> import torch
        >>> from differnet.flows import real_nvp
        >>> round(real_nvp(2).log_prob(torch.zeros(2)).item(), 4)  # the standard normal's
        -1.8379

    Source: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP".
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(i: int) -> list[Transform]:
        coupling = AffineCoupling(
            features,
            context_features,
            hidden=hidden,
            scale_bound=scale_bound,
            shift_bound=shift_bound,
            input_bound=input_bound,
        )
        return [*shuffle(i, features, generator, redrawn=redrawn), coupling]

    return stack(features, layer, couplings, first, seed)


def nice(
    features: int,
    context_features: int = 0,
    *,
    couplings: int = 6,
    hidden: int = 96,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) NICE: additive couplings with permutations between, and a scaling at the end.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        couplings: Number of additive couplings.
        hidden: Width of each coupling's network.
        first: A transform before the couplings, such as `Whitening`.
        seed: Of permutations and weights.

    Returns:
        A flow that starts near the density of ``first`` alone: its first shifts are some hundredths. Only the
        scaling changes volumes.

    Raises:
        FlowError: A size is not positive, or ``first`` has another width.

    Source: Dinh, Krueger, Bengio 2015, "NICE: Non-linear independent components estimation".
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(i: int) -> list[Transform]:
        coupling = AdditiveCoupling(features, context_features, hidden=hidden)
        # Exact zeros are a saddle for data in which no feature's mean depends on the others, such as rings:
        # the gradient of every shift vanishes, and no change of volume breaks the symmetry.
        nn.init.normal_(coupling.net.leave.weight, std=NICE_START)
        return [*shuffle(i, features, generator), coupling]

    return stack(features, layer, couplings, first, seed, last=Scaling(features, context_features))


def maf(
    features: int,
    context_features: int = 0,
    *,
    layers: int = 5,
    hidden: int = 96,
    scale_bound: float = 2.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) masked autoregressive flow: fast densities, samples feature by feature.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        layers: Number of autoregressive layers; the order of the features is reversed between them.
        hidden: Width of each layer's network.
        scale_bound: See `AffineAutoregressive`.
        first: A transform before the layers, such as `Whitening`.
        seed: Of the weights.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Source: Papamakarios, Pavlakou, Murray 2017, "Masked autoregressive flow for density estimation".
    """

    def layer(i: int) -> list[Transform]:
        made = AffineAutoregressive(features, context_features, hidden=hidden, scale_bound=scale_bound)
        return [Permutation.reverse(features), made] if i and features > 1 else [made]

    return stack(features, layer, layers, first, seed)


def iaf(
    features: int,
    context_features: int = 0,
    *,
    layers: int = 5,
    hidden: int = 96,
    scale_bound: float = 2.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) inverse autoregressive flow: fast samples, densities feature by feature.

    The layers are those of `maf`, each swapped by `Inverse`. Meant for reverse KL and for sampling; its own
    samples come with their density at the price of one pass (`Flow.sample_and_log_prob`).

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        layers: Number of autoregressive layers; the order of the features is reversed between them.
        hidden: Width of each layer's network.
        scale_bound: See `AffineAutoregressive`.
        first: A transform before the layers, such as `Whitening`.
        seed: Of the weights.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Source: Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow".
    """

    def layer(i: int) -> list[Transform]:
        made = AffineAutoregressive(features, context_features, hidden=hidden, scale_bound=scale_bound)
        return [Permutation.reverse(features), Inverse(made)] if i and features > 1 else [Inverse(made)]

    return stack(features, layer, layers, first, seed)


def spline_coupling(
    features: int,
    context_features: int = 0,
    *,
    couplings: int = 6,
    hidden: int = 96,
    bins: int = 8,
    edge: float = 5.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) neural spline flow of couplings: densities and samples both in one pass.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        couplings: Number of couplings, with random permutations between.
        hidden: Width of each coupling's network.
        bins: Bins of each spline.
        edge: The splines act inside ``[-edge, edge]``: standardise the vectors, or give a ``first`` that
            does.
        first: A transform before the couplings, such as `Whitening`.
        seed: Of permutations and weights.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Source: Durkan et al. 2019, "Neural spline flows".
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(i: int) -> list[Transform]:
        coupling = SplineCoupling(features, context_features, hidden=hidden, bins=bins, edge=edge)
        return [*shuffle(i, features, generator), coupling]

    return stack(features, layer, couplings, first, seed)


def spline_autoregressive(
    features: int,
    context_features: int = 0,
    *,
    layers: int = 3,
    hidden: int = 96,
    bins: int = 8,
    edge: float = 5.0,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) autoregressive neural spline flow: densities in one pass.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        layers: Number of autoregressive layers; the order of the features is reversed between them.
        hidden: Width of each layer's network.
        bins: Bins of each spline.
        edge: The splines act inside ``[-edge, edge]``: standardise the vectors, or give a ``first`` that
            does.
        first: A transform before the layers, such as `Whitening`.
        seed: Of the weights.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size or bound is not positive, or ``first`` has another width.

    Source: Durkan et al. 2019, "Neural spline flows".
    """

    def layer(i: int) -> list[Transform]:
        made = SplineAutoregressive(features, context_features, hidden=hidden, bins=bins, edge=edge)
        return [Permutation.reverse(features), made] if i and features > 1 else [made]

    return stack(features, layer, layers, first, seed)


def planar(
    features: int,
    context_features: int = 0,
    *,
    layers: int = 16,
    fast_sampling: bool = False,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) planar flow.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        layers: Number of planar layers.
        fast_sampling: Which direction has the closed form. By default densities have it, for maximum
            likelihood; ``True`` gives it to samples, for reverse KL, the paper's own use.
        first: A transform before the layers, such as `Whitening`.
        seed: Of the starting directions.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size is not positive, or ``first`` has another width.

    Source: Rezende, Mohamed 2015, "Variational inference with normalizing flows".
    """

    def layer(i: int) -> list[Transform]:
        bend = Planar(features, context_features, seed=seed * layers + i)
        return [Inverse(bend) if fast_sampling else bend]

    return stack(features, layer, layers, first, seed)


def radial(
    features: int,
    context_features: int = 0,
    *,
    layers: int = 16,
    fast_sampling: bool = False,
    first: Transform | None = None,
    seed: int = 0,
) -> Flow:
    """Build a (conditional) radial flow.

    Args:
        features: Width of the vectors.
        context_features: Width of the context; 0 for an unconditional density.
        layers: Number of radial layers.
        fast_sampling: ``True`` uses the paper's direction for samples, as reverse KL wants it, with layers
            that open holes, see `Radial`. Both directions have a closed form and cost nearly the same.
        first: A transform before the layers, such as `Whitening`.
        seed: Of the starting centres.

    Returns:
        A flow that starts as the density of ``first`` alone.

    Raises:
        FlowError: A size is not positive, or ``first`` has another width.

    Source: Rezende, Mohamed 2015, "Variational inference with normalizing flows".
    """

    def layer(i: int) -> list[Transform]:
        bend = Radial(features, context_features, opens=fast_sampling, seed=seed * layers + i)
        return [Inverse(bend) if fast_sampling else bend]

    return stack(features, layer, layers, first, seed)


def shuffle(
    layer: int, features: int, generator: torch.Generator, *, redrawn: bool = True
) -> list[Transform]:
    """Return what stands before a coupling so that no feature is forgotten.

    Every odd layer moves what the layer before it passed through; between such pairs the features are drawn
    anew, or not. With random permutations alone a feature stays untouched by six couplings once in 64 times.
    """
    if layer == 0 or features == 1:
        return []
    if redrawn and layer % 2 == 0 and features > 2:
        return [Permutation.random(features, generator)]
    return [Permutation(torch.arange(features).roll(-(features // 2)))]


def stack(
    features: int,
    layer: Callable[[int], list[Transform]],
    layers: int,
    first: Transform | None,
    seed: int,
    last: Transform | None = None,
) -> Flow:
    """Build a flow of ``first``, repeated layers and ``last``; torch's own randomness is left as it was.

    Args:
        features: Width of the vectors.
        layer: From the number of a layer to its transforms.
        layers: How many; with none, and no ``first`` and ``last``, the flow is the standard normal.
        first: A transform before them, or ``None``.
        seed: Of the weights.
        last: A transform after them, or ``None``.

    Raises:
        FlowError: ``layers`` is negative.
    """
    if layers < 0:
        raise FlowError(
            expected="no layers or more", found=f"{layers}", remedy="Give the number of layers of the flow."
        )
    chain: list[Transform] = [first] if first is not None else []
    # Layers draw their weights from torch's own generator, which all threads share.
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i in range(layers):
            chain += layer(i)
    if last is not None:
        chain.append(last)
    return Flow(Compose(chain or [Permutation(torch.arange(features))]))
