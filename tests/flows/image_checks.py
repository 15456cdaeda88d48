"""Properties of Glow's layers, of flows of pictures and of grey levels; each raises AssertionError with why.

What a planted fault replaces is reached through its module, so that the fault is met here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import kstest
from torch import Tensor, nn

from differnet.flows import Compose, Flow, Leading, TrainingPlan, Transform, fit_maximum_likelihood
from differnet.flows import dequantisation as grey_levels
from differnet.flows import multiscale as pictures
from differnet.flows.dequantisation import Logit
from differnet.flows.glow_layers import ActNorm, ConvolutionalCoupling, InvertibleLinear, glow
from flows.checks import EXACT, agree, require
from flows.registry import normal, randomise

Preset = Callable[..., Flow]
PRESETS: tuple[Preset, ...] = (pictures.glow_image, pictures.real_nvp_image)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uneven(batch: int, features: int) -> Tensor:
    """Return vectors of which every feature has a mean and a deviation of its own."""
    generator = seeded(3)
    return normal(generator, batch, features) * normal(generator, features).exp() + 3 * normal(
        generator, features
    )


def actnorms_of(transform: Transform, x: Tensor, context: Tensor | None) -> list[tuple[ActNorm, Tensor]]:
    """Return every ActNorm inside with what leaves it when ``x`` passes."""
    seen: list[tuple[ActNorm, Tensor]] = []

    def keep(layer: nn.Module, _: object, mapped: tuple[Tensor, Tensor]) -> None:
        if isinstance(layer, ActNorm):
            seen.append((layer, mapped[0]))

    hooks = [m.register_forward_hook(keep) for m in transform.modules() if isinstance(m, ActNorm)]
    with torch.no_grad():
        transform(x, context)
    for hook in hooks:
        hook.remove()
    require(len(seen) == len(hooks), f"{len(seen)} of {len(hooks)} ActNorms are used")
    return seen


def check_started(transform: Transform, x: Tensor, context: Tensor | None = None) -> int:
    """Check that every channel leaves every ActNorm with zero mean and unit variance; return how many."""
    seen = actnorms_of(transform, x, context)
    for layer, z in seen:
        channels = z.reshape(len(z), layer.channels, layer.positions)
        zeros = torch.zeros(layer.channels, dtype=z.dtype)
        agree(channels.mean((0, 2)), zeros, EXACT, "mean after ActNorm")
        agree(channels.std((0, 2), correction=0), zeros + 1, EXACT, "deviation after ActNorm")
    return len(seen)


def actnorm_starts_with_zero_mean_and_unit_variance() -> None:
    for channels, positions in ((1, 1), (5, 1), (2, 6), (1, 4)):
        norm = ActNorm(channels, positions).double()
        x = uneven(200, channels * positions)
        norm.start_from(x)
        require(check_started(norm, x) == 1, "not one ActNorm")


def actnorm_starts_once_and_from_nothing_else() -> None:
    norm = ActNorm(3).double()
    x = uneven(50, 3)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(x)
    norm.inverse(x)
    same = all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    require(same, "a call changes the state")
    norm.start_from(x)
    z, log_det = norm(x)
    norm.start_from(5 * x + 1)
    require(torch.equal(norm(x)[0], z), "started twice")
    # A copy of its state has started too.
    other = ActNorm(3).double()
    other.load_state_dict(norm.state_dict())
    other.start_from(5 * x + 1)
    require(torch.equal(other(x)[0], z), "a loaded state starts again")
    require(torch.equal(other(x)[1], log_det), "a loaded state has another log_det")


def actnorm_does_not_blow_up_a_constant_channel() -> None:
    x = uneven(50, 3)
    x[:, 1] = 2.0
    norm = ActNorm(3).double()
    norm.start_from(x)
    # The median deviation is the smaller of the other two; a thousandth of it is the least that is used.
    ratio = norm.log_scale[1] - norm.log_scale[[0, 2]].max()
    agree(ratio, torch.tensor(math.log(1e3), dtype=torch.float64), EXACT, "log-scale of a constant channel")
    norm = ActNorm(3).double()
    norm.start_from(torch.full((4, 3), 2.0, dtype=torch.float64))
    require(norm.log_scale.tolist() == [0.0, 0.0, 0.0], f"log-scales {norm.log_scale.tolist()} of nothing")


def every_actnorm_starts_however_deep() -> None:
    for preset in PRESETS:
        for context_features in (0, 3):
            flow = preset((1, 8, 8), context_features, levels=3, steps=2, hidden=6).double()
            randomise(flow, seeded(0), 1.0)
            x = uneven(100, 64)
            context = uneven(100, context_features) if context_features else None
            flow.transform.start_from(x, context)
            # Glow: two a level and one before each half leaves. Real NVP: 2 + 2, 2 + 2, 3.
            wanted = 8 if preset is pictures.glow_image else 11
            found = check_started(flow.transform, x, context)
            require(found == wanted, f"{preset.__name__}: {found} ActNorms, not {wanted}")


def training_starts_the_flow() -> None:
    """The very first loss is nearly that of a Gaussian with the data's moments.

    0.3 nats tolerate the sampling of 200 vectors, four times over: the deviation of a mean of 200
    numbers of variance 1 is 0.07.
    """
    vectors = 5 + 0.1 * torch.randn(200, 2, generator=seeded(0))
    losses: list[float] = []
    plan = TrainingPlan(steps=1, batch=200)
    fit_maximum_likelihood(
        glow(2, hidden=8), vectors, plan=plan, progress=lambda _, loss: losses.append(loss)
    )
    entropy = math.log(2 * math.pi * math.e) + 2 * math.log(0.1)
    require(abs(losses[0] - entropy) <= 0.3, f"first loss {losses[0]:.3f}, entropy {entropy:.3f}")


def mixing_starts_as_the_orthogonal_matrix_of_its_seed() -> None:
    # 40 matrices: among them are both signs of the determinant, and many signs of s.
    for seed in range(40):
        weight = InvertibleLinear(4, seed=seed).weight()
        # 1e-5: what rounding the factors to float32 leaves of an orthogonal matrix.
        agree(weight @ weight.T, torch.eye(4), 1e-5, "W W^T")
    require(torch.equal(weight, InvertibleLinear(4, seed=39).weight()), "one seed, two matrices")
    other = InvertibleLinear(4, seed=38).weight()
    require(not torch.allclose(weight, other, atol=0.1), "two seeds, one matrix")


def numbered(shape: tuple[int, int, int]) -> Tensor:
    return torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)


def squeeze_keeps_neighbourhoods_together() -> None:
    shape = (3, 4, 6)
    picture = numbered(shape)
    require(pictures.squeezed_shape(shape) == (12, 2, 3), f"{pictures.squeezed_shape(shape)}")
    squeezed = pictures.squeeze(shape)(picture.flatten())[0].reshape(12, 2, 3)
    for i in range(2):
        for j in range(3):
            block = picture[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            together = sorted(squeezed[:, i, j].tolist()) == sorted(block.flatten().tolist())
            require(together, f"block {i}, {j} is torn apart")
            # The first half are upper rows of every channel: half black, half white.
            upper = sorted(squeezed[:6, i, j].tolist()) == sorted(block[:, 0].flatten().tolist())
            require(upper, f"the first channels of block {i}, {j} are not its upper row")
    # Every channel of the squeezed picture is one channel of the picture, at every second square.
    for channel, wanted in (
        (0, picture[0, ::2, ::2]),
        (3, picture[0, ::2, 1::2]),
        (11, picture[2, 1::2, 1::2]),
    ):
        require(torch.equal(squeezed[channel], wanted), f"channel {channel}: {squeezed[channel].tolist()}")


def checkerboard_parts_black_from_white_and_keeps_neighbours() -> None:
    shape = (2, 5, 8)
    picture = numbered(shape)
    board = pictures.checkerboard(shape)(picture.flatten())[0].reshape(2, 2, 5, 4)
    where = {float(board[index]): index for index in ((h, c, i, j) for h in range(2) for c in range(2)
             for i in range(5) for j in range(4))}  # fmt: skip
    for channel in range(2):
        for row in range(5):
            for column in range(8):
                half, its, i, j = where[float(picture[channel, row, column])]
                square = f"square {row}, {column} of channel {channel}"
                require((half, its) == ((row + column) % 2, channel), f"{square} is in half {half} of {its}")
                for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                    if 0 <= r < 5 and 0 <= c < 8:
                        other, _, k, m = where[float(picture[channel, r, c])]
                        require(other != half, f"{square} and a neighbour have one colour")
                        require(max(abs(k - i), abs(m - j)) <= 1, f"{square} is far from a neighbour")


def leavings(flow: Flow) -> list[tuple[int, int]]:
    """Return, for every half that leaves, the widths that go on and that come in."""
    return [(m.transform.features, m.features) for m in flow.modules() if isinstance(m, Leading)]


def halves_leave_and_are_left_alone() -> None:
    for preset in PRESETS:
        name = preset.__name__
        flow = preset((1, 8, 8), levels=3, steps=1, hidden=5).double()
        require(leavings(flow) == [(32, 64), (16, 32)], f"{name}: {leavings(flow)} leave")
        randomise(flow, seeded(0), 1.0)
        x = uneven(4, 64)
        z, _ = flow.transform(x)
        # New weights further in move what goes on, not what has left.
        outer = next(m for m in flow.modules() if isinstance(m, Leading))
        randomise(outer, seeded(1), 1.0)
        moved = (flow.transform(x)[0] - z).abs().amax(0) > 0
        require(not bool(moved[32:].any()), f"{name}: what has left is moved")
        require(bool(moved[:32].all()), f"{name}: what goes on is not moved")


def leaving_half_is_given_the_other() -> None:
    """Glow's prior: right before a half leaves stands a coupling that moves that half, given the other."""
    flow = pictures.glow_image((1, 8, 8), levels=3, steps=2, hidden=5)
    found = 0
    for chain in (list(m.transforms) for m in flow.modules() if isinstance(m, Compose)):
        for before, layer in zip([None, *chain], chain, strict=False):
            if isinstance(layer, Leading):
                found += 1
                given = isinstance(before, ConvolutionalCoupling) and before.kept == layer.transform.features
                require(given, f"{type(before).__name__} before a half leaves")
    require(found == 2, f"{found} halves leave, not 2")
    couplings = sum(isinstance(m, ConvolutionalCoupling) for m in flow.modules())
    require(couplings == 3 * 2 + 2, f"{couplings} couplings: two a level and two priors are 8")


def what_goes_on_is_a_picture() -> None:
    """The channels that go on keep their places: layers further in see pictures of half the size."""
    flow = pictures.glow_image((1, 8, 8), levels=3, steps=1, hidden=5)
    sizes = [(m.channels, m.positions) for m in flow.modules() if isinstance(m, InvertibleLinear)]
    require(sizes == [(4, 16), (8, 4), (16, 1)], f"Glow's mixings are of {sizes}")
    flow = pictures.real_nvp_image((1, 8, 8), levels=3, steps=1, hidden=5)
    shapes = [m.shape for m in flow.modules() if isinstance(m, ConvolutionalCoupling)]
    wanted = [(2, 8, 4), (4, 4, 4), (4, 4, 2), (8, 2, 2), (8, 2, 1), (8, 2, 1)]
    require(shapes == wanted, f"Real NVP's couplings are of {shapes}")


def alternating_halves_move_every_square() -> None:
    """Neither half is always passed through, and every square comes back to its place."""
    flow = pictures.real_nvp_image((1, 4, 4), levels=1, steps=1, hidden=5).double()
    x = uneven(3, 16)
    require(torch.equal(flow.transform(x)[0], x), "squares do not come back to their places")
    for layer in flow.modules():
        if isinstance(layer, ConvolutionalCoupling):
            randomise(layer, seeded(1), 2.0)
    require(bool((flow.transform(x)[0] != x).all()), "some squares are never moved")


def noise_is_uniform_over_the_cell() -> None:
    grey = torch.randint(0, 17, (20_000,), generator=seeded(0))
    x = grey_levels.dequantise(grey, 17, seeded(1))
    noise = (17 * x - grey).numpy()
    # A true null passes at this level in all but one of 10,000 seeds; the seed is fixed.
    p_value = float(kstest(noise, "uniform").pvalue)
    require(p_value > 1e-4, f"p-value {p_value:.2g} of uniform noise")
    require(torch.equal(x, grey_levels.dequantise(grey, 17, seeded(1))), "one seed, other noise")
    require(not torch.equal(x, grey_levels.dequantise(grey, 17, seeded(2))), "two seeds, the same noise")


def quantise_undoes_dequantise() -> None:
    for levels in (2, 17, 256, 4096):
        for dtype in (torch.float32, torch.float64):
            grey = torch.arange(levels).to(dtype).repeat(50, 1)
            x = grey_levels.dequantise(grey, levels, seeded(0))
            require(x.dtype == dtype, f"{x.dtype} of {dtype}")
            require(float(x.min()) > 0 and float(x.max()) < 1, f"{float(x.min())} to {float(x.max())}")
            require(torch.equal(grey_levels.quantise(x, levels), grey.long()), f"{levels} levels of {dtype}")


def samples_beyond_the_ends_get_the_nearest_level() -> None:
    found = grey_levels.quantise(torch.tensor([-3.0, 0.0, 0.5, 1.0, 9.0]), 4).tolist()
    require(found == [0, 0, 2, 3, 3], f"{found}")


def uniform_density_needs_all_bits() -> None:
    for levels in (2, 17, 256):
        found = grey_levels.bits_per_dimension(torch.zeros(3, dtype=torch.float64), 64, levels)
        agree(found, torch.full_like(found, math.log2(levels)), EXACT, f"bits of {levels} levels")


def categorical(levels: int, features: int) -> Tensor:
    """Return the probabilities of independent features, ``(features, levels)``."""
    return normal(seeded(5), features, levels).mul(1.5).softmax(-1)


def histogram_needs_exactly_its_entropy() -> None:
    """The density that is even over every cell wastes nothing: its bits are those of the levels."""
    levels, features = 7, 3
    table = categorical(levels, features)
    grey = torch.cartesian_prod(*[torch.arange(levels)] * features)
    probability = torch.stack([table[i, grey[:, i]] for i in range(features)], -1).prod(-1)
    x = grey_levels.dequantise(grey.double(), levels, seeded(0))
    cell = grey_levels.quantise(x, levels)
    log_prob = torch.stack([(levels * table[i, cell[:, i]]).log() for i in range(features)], -1).sum(-1)
    found = (probability * grey_levels.bits_per_dimension(log_prob, features, levels)).sum()
    entropy = -(probability * probability.log2()).sum() / features
    agree(found, entropy, EXACT, "bits of the histogram")


def objective_is_the_likelihood_of_spread_levels() -> None:
    flow = Flow(Logit(3))
    grey = torch.randint(0, 17, (5, 3), generator=seeded(0)).float()
    loss = grey_levels.dequantised_likelihood(17)(flow, grey, None, seeded(1))
    wanted = -flow.log_prob(grey_levels.dequantise(grey, 17, seeded(1)))
    require(loss.shape == (5,), f"loss of shape {tuple(loss.shape)}")
    require(torch.equal(loss, wanted), "another likelihood")


IMAGE_CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        actnorm_starts_with_zero_mean_and_unit_variance,
        actnorm_starts_once_and_from_nothing_else,
        actnorm_does_not_blow_up_a_constant_channel,
        every_actnorm_starts_however_deep,
        training_starts_the_flow,
        mixing_starts_as_the_orthogonal_matrix_of_its_seed,
        squeeze_keeps_neighbourhoods_together,
        checkerboard_parts_black_from_white_and_keeps_neighbours,
        halves_leave_and_are_left_alone,
        leaving_half_is_given_the_other,
        what_goes_on_is_a_picture,
        alternating_halves_move_every_square,
        noise_is_uniform_over_the_cell,
        quantise_undoes_dequantise,
        samples_beyond_the_ends_get_the_nearest_level,
        uniform_density_needs_all_bits,
        histogram_needs_exactly_its_entropy,
        objective_is_the_likelihood_of_spread_levels,
    )
}
