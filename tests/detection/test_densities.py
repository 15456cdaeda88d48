"""Couplings stay where they raise the likelihood of good parts they have not seen, and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from differnet.detection import (
    DensitySettings,
    DetectorSettings,
    PartDensity,
    PatchDensity,
    patch_vectors,
    pooled_statistics,
)
from differnet.detection import densities as densities_module
from differnet.detection.context import coordinates_for, position_code
from differnet.detection.densities import FlowShape, TrainingLoss, rebuild_flow
from differnet.detection.ensemble import Ensemble, Member, plain_local
from differnet.detection.gathering import Features
from differnet.features import Backbone, find_weights
from differnet.flows import Compose, FlowError, fit_maximum_likelihood
from differnet.flows import Flow as Density
from differnet.flows.by_hand import CouplingLikelihood

QUICK = DensitySettings(steps=150, couplings=2, hidden=24, batch=256)
NOTHING = torch.zeros(40, 1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian_patches(parts: int, seed: int = 0) -> Tensor:
    """``(parts, 4, 4, 5)`` of one correlated Gaussian."""
    return drawn(parts, 4, 4, 5, seed=seed) @ drawn(5, 5, seed=99) + 3


def bent_patches(parts: int, seed: int = 0) -> Tensor:
    """``(parts, 4, 4, 4)`` on parabolas: clearly no Gaussian."""
    straight, rest = drawn(parts, 4, 4, 2, seed=seed), drawn(parts, 4, 4, 2, seed=seed + 1)
    return torch.cat([straight, straight.square() + 0.1 * rest], dim=-1)


def gaussian_of(density: PatchDensity | PartDensity) -> Density:
    chain = density.flow.transform
    assert isinstance(chain, Compose)
    links = [t for t in chain.transforms if not isinstance(t, str)]
    return Density(Compose(links[:2]))  # type: ignore[arg-type]


def mean_nll(density: Density, vectors: Tensor) -> float:
    with torch.no_grad():
        return -float(density.log_prob(vectors).mean())


def test_gaussian_patches_keep_their_gaussian() -> None:
    """Trained for long on little, the couplings lose on held-out parts and are dropped."""
    settings = DensitySettings(steps=400, couplings=4, hidden=64, batch=256, context_noise=0.0)
    parts, fresh = gaussian_patches(14), gaussian_patches(60, seed=1)
    density = PatchDensity.fit(parts, drawn(14, 4, seed=2), settings, seed=0)
    assert density.shape.couplings == 0
    assert density.shape.context == 0
    _, nll = density.energy(fresh, drawn(60, 4, seed=3))
    assert torch.equal(nll, gaussian_of(density).evidence(fresh).nll)
    # By hand: the cross entropy of the true Gaussian and the one smoothed by 0.3 standard deviations.
    true = drawn(5, 5, seed=99).T @ drawn(5, 5, seed=99)
    smoothed = true + settings.noise**2 * torch.diag(true.diagonal())
    inside = torch.trace(torch.linalg.solve(smoothed, true))
    wanted = 0.5 * (5 * math.log(2 * math.pi) + torch.logdet(smoothed) + inside)
    # 192 patches know their covariance to a tenth, and shrinkage widens its smallest directions.
    assert float(wanted) < float(nll.mean()) < float(wanted) + 0.5


def test_bent_patches_keep_their_couplings_and_gain_by_them() -> None:
    parts, fresh = bent_patches(40), bent_patches(40, seed=7)
    density = PatchDensity.fit(parts, NOTHING, QUICK, seed=0)
    assert density.shape.couplings == 2
    energy, nll = density.energy(fresh, NOTHING)
    assert nll.shape == energy.shape == (40, 4, 4)
    assert float(nll.mean()) < mean_nll(gaussian_of(density), fresh) - 0.1


def test_no_patch_density_is_worse_than_its_gaussian_on_fresh_parts() -> None:
    for seed, patches in enumerate((gaussian_patches, bent_patches)):
        density = PatchDensity.fit(patches(40), NOTHING, QUICK, seed)
        _, nll = density.energy(patches(200, seed=50), torch.zeros(200, 1))
        # A tenth of a nat a patch is what choosing by five held-out parts may cost.
        assert float(nll.mean()) < mean_nll(gaussian_of(density), patches(200, seed=50)) + 0.1


def test_position_and_kind_of_part_are_used() -> None:
    """Patches whose mean depends on the kind of part, and on the row, are expected where they belong."""
    kinds = torch.where(drawn(48, 1) > 0, 1.5, -1.5)
    rows = torch.linspace(-1, 1, 4)[None, :, None, None]
    patches = 0.3 * drawn(48, 4, 4, 3, seed=1) + kinds[:, :, None, None] + 2 * rows
    density = PatchDensity.fit(patches, kinds, QUICK, seed=0)
    assert density.shape.couplings
    assert density.shape.context == 11
    right = float(density.energy(patches, kinds)[1].mean())
    assert right < float(density.energy(patches, -kinds)[1].mean()) - 0.5
    assert right < float(density.energy(patches.flip(1), kinds)[1].mean()) - 0.5


def test_few_parts_have_no_couplings() -> None:
    density = PatchDensity.fit(bent_patches(11), torch.zeros(11, 1), QUICK, seed=0)
    assert density.shape.couplings == 0
    assert PatchDensity.fit(bent_patches(12), torch.zeros(12, 1), QUICK, seed=0).shape.features == 4
    assert PartDensity.fit(drawn(23, 40), QUICK, seed=0).shape.couplings == 0


def test_a_likelihood_that_is_nan_never_keeps_couplings(monkeypatch: pytest.MonkeyPatch) -> None:
    true = Density.log_prob

    def spoilt(self: Density, *given: Tensor) -> Tensor:
        log_prob = true(self, *given)
        judging = not torch.is_grad_enabled() and len(list(self.parameters())) > 0
        return log_prob * math.nan if judging else log_prob

    monkeypatch.setattr(Density, "log_prob", spoilt)
    assert PatchDensity.fit(bent_patches(40), NOTHING, QUICK, seed=0).shape.couplings == 0
    assert PartDensity.fit(drawn(60, 20), QUICK, seed=0).shape.couplings == 0


def test_part_density_of_gaussian_statistics_is_the_gaussian() -> None:
    settings = DensitySettings(steps=1600, couplings=4, hidden=64)
    statistics, fresh = drawn(48, 60), drawn(100, 60, seed=1)
    density = PartDensity.fit(statistics, settings, seed=0)
    assert density.shape.couplings == 0
    assert torch.equal(density.flow.log_prob(fresh), gaussian_of(density).log_prob(fresh))


def test_part_density_of_bent_statistics_gains() -> None:
    def bent(seed: int) -> Tensor:
        along = drawn(200, 1, seed=seed)
        return torch.cat([along, along.square(), 0.1 * drawn(200, 2, seed=seed + 1)], dim=1)

    settings = DensitySettings(steps=1200, whole_couplings=4, hidden=32)
    density = PartDensity.fit(bent(0), settings, seed=0)
    assert density.shape.couplings == 4
    assert density.shape.leading == 4
    fresh = bent(10)
    assert mean_nll(density.flow, fresh) < mean_nll(gaussian_of(density), fresh)


@pytest.mark.parametrize(("parts", "coordinates"), [(4, 1), (16, 1), (40, 2), (300, 3)])
def test_leading_coordinates_are_the_principal_ones(parts: int, coordinates: int) -> None:
    """One for every 16 directions, in the order of variance, of unit size on the training parts."""
    scales = torch.cat([torch.tensor([50.0, 20.0, 8.0]), torch.full((60,), 0.05)])
    mixed = drawn(parts, 63) * scales @ torch.linalg.qr(drawn(63, 63, seed=1)).Q
    density = PartDensity.fit(mixed, DensitySettings(couplings=0), seed=0)
    leading = density.leading(mixed)
    assert leading.shape[1] == density.coordinates == coordinates
    assert float(leading[:, 0].std(correction=0)) == pytest.approx(1, abs=0.35)


def test_same_seed_same_weights_other_seed_others() -> None:
    def weights(seed: int) -> Tensor:
        fitted = PatchDensity.fit(bent_patches(20), torch.zeros(20, 1), QUICK, seed)
        return torch.cat([p.detach().flatten() for p in fitted.flow.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("couplings", [0, 2])
@pytest.mark.parametrize("rank", [None, 0, 3])
def test_a_flow_is_rebuilt_from_its_shape(couplings: int, rank: int | None) -> None:
    flow = rebuild_flow(FlowShape(6, 2 * (couplings > 0), rank, 6, couplings, 8))
    own = flow.state_dict()
    assert len({t.data_ptr() for t in own.values() if t.numel()}) == sum(t.numel() > 0 for t in own.values())
    context = torch.zeros(2) if couplings else None
    assert bool(torch.isfinite(flow.log_prob(torch.zeros(6), context)))


def test_shapes_that_cannot_be_are_errors() -> None:
    for shape in (FlowShape(6, 0, 6, 6, 0, 8), FlowShape(6, 0, None, 7, 2, 8)):
        with pytest.raises(FlowError):
            rebuild_flow(shape)


def test_parts_that_do_not_vary_still_have_a_density() -> None:
    same = drawn(1, 30).expand(10, 30).contiguous()
    density = PartDensity.fit(same, QUICK, seed=0)
    nll = density.flow.evidence(torch.cat([same[:1], same[:1] + 1])).nll
    assert bool(torch.isfinite(nll).all())
    assert nll[1] > nll[0]


def test_progress_reaches_its_end() -> None:
    told: list[tuple[int, int]] = []
    PatchDensity.fit(bent_patches(20), torch.zeros(20, 1), QUICK, 0, lambda *given: told.append(given))
    assert told == [(done, QUICK.steps) for done in range(3, QUICK.steps + 1, 3)]


def test_energy_of_good_patches_averages_near_one() -> None:
    density = PatchDensity.fit(gaussian_patches(60), torch.zeros(60, 1), DensitySettings(couplings=0), 0)
    energy, nll = density.energy(gaussian_patches(60, seed=5), torch.zeros(60, 1))
    # Unsmoothed patches lie a little inside the smoothed density.
    assert 0.4 < float(energy.mean()) < 1.1
    assert float(energy.min()) > 0
    # With the log-determinant constant the two rank alike: nll = D/2 energy + const.
    constant = nll - 2.5 * energy
    assert float(constant.max() - constant.min()) < 1e-4


def test_the_densities_cost_at_most_a_third_of_the_network() -> None:
    """Operations of judging one picture by a model of 761 parts, the most that the whole's rank has been."""
    settings = DetectorSettings()
    network = Backbone(settings.backbone, find_weights(settings.backbone))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        # As it is: folded for this processor it has kernels with zeros in them.
        maps = network.traced(torch.zeros(1, 3, settings.image_size, settings.image_size))
    backbone = counted.get_total_flops()
    statistics = pooled_statistics(maps)
    patches = [patch_vectors(maps, network.strides, scale) for scale in settings.scales]
    density, context = settings.density, position_code(1, 1).shape[-1] + coordinates_for(761)

    def whole(parts: int) -> PartDensity:
        shape = FlowShape(statistics.shape[1], 0, parts - 1, 32, density.whole_couplings, density.hidden)
        return PartDensity(rebuild_flow(shape), shape, parts)

    def local(features: int) -> PatchDensity:
        shape = FlowShape(features, context, None, features, density.couplings, density.hidden)
        return PatchDensity(rebuild_flow(shape), shape)

    members = tuple(Member((whole(571),), ()) for _ in range(settings.folds))
    complete = Member((whole(761),), tuple(local(p.shape[-1]) for p in patches))
    kept = tuple(torch.ones(p.shape[1:3], dtype=torch.bool) for p in patches)
    features = Features((statistics,), tuple(patches), kept, (tuple(maps),), (None,))
    ensemble = Ensemble(members, complete)
    # What is the same for every picture is computed with the first.
    ensemble.evidence(features)
    with FlopCounterMode(display=False) as counted:
        ensemble.evidence(features)
    assert counted.get_total_flops() > 0.1 * backbone
    assert counted.get_total_flops() <= backbone / 3


def test_the_coarsest_patches_tell_suspects() -> None:
    fine, coarse = drawn(40, 8, 8, 3), drawn(40, 4, 4, 5, seed=1)
    fine[3, 2:4, 2:4] += 9.0
    coarse[7, 1, 1] += 9.0
    for patches in ((fine, coarse), (coarse, fine)):
        kept = tuple(torch.ones(p.shape[1:3], dtype=torch.bool) for p in patches)
        found = plain_local(Features((drawn(40, 2),), patches, kept, ((),), (None,)), DensitySettings())
        assert found.shape == (40, 1)
        assert found.argmax() == 7
        # What is odd in the fine patches alone stands out from nothing.
        assert found[3, 0] < found.mean() + 2 * found.std()


def minimised(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The loss of every step of every training, as the optimiser sees it."""
    trainings: list[list[float]] = []
    loss_of = CouplingLikelihood.loss

    def listening(*given: Any, **more: Any) -> Any:
        trainings.append([])
        return fit_maximum_likelihood(*given, **more)

    def noted(likelihood: CouplingLikelihood, *batch: Any) -> Tensor:
        trainings[-1].append(float(loss := loss_of(likelihood, *batch)))
        return loss

    monkeypatch.setattr(densities_module, "fit_maximum_likelihood", listening)
    monkeypatch.setattr(CouplingLikelihood, "loss", noted)
    return trainings


def test_the_loss_that_is_told_is_the_one_that_is_minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = minimised(monkeypatch)
    told: list[TrainingLoss] = []
    parts = bent_patches(20)
    density = PatchDensity.fit(parts, torch.zeros(20, 1), QUICK, 0, losses=told.append)
    (steps,) = trainings
    assert density.shape.couplings == 2
    assert [loss.step for loss in told] == list(range(3, 151, 3))
    for loss in told:
        assert loss.steps == 150
        assert loss.training == pytest.approx(sum(steps[loss.step - 3 : loss.step]) / 3)
    # It falls, or nothing would be learned from a curve of it.
    assert told[-1].training < told[0].training - 0.5
    assert [loss.step for loss in told if loss.held_out is not None] == list(range(15, 151, 15))
    # The last look is at the couplings as they are kept, on the parts that were held out from training.
    held = densities_module._held_out(20, 0)
    _, nll = density.energy(parts[held], torch.zeros(int(held.sum()), 1))
    whitened = gaussian_of(density).transform(parts[held])[1]
    assert told[-1].held_out == pytest.approx(float((nll + whitened).mean()), abs=1e-4)


def test_a_trial_tells_held_out_parts_and_the_training_on_all_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings = minimised(monkeypatch)
    told: list[TrainingLoss] = []
    settings = DensitySettings(steps=1200, whole_couplings=4, hidden=32)
    bent = torch.cat([(first := drawn(400, 4)), first.square() + 0.1 * drawn(400, 4, seed=1)], dim=1)
    assert PartDensity.fit(bent, settings, seed=0, losses=told.append).shape.couplings == 4
    trial, final = ([loss for loss in told if loss.trial is wanted] for wanted in (True, False))
    assert len(trial) == len(final) == 50
    assert trial[-1].held_out is not None
    assert all(loss.held_out is None for loss in final)
    for losses, steps in zip((trial, final), trainings, strict=True):
        assert losses[-1].training == pytest.approx(sum(steps[-6:]) / 6)
        assert losses[-1].steps == 300


def test_who_is_told_changes_nothing_of_what_is_learned() -> None:
    told: list[TrainingLoss] = []
    first, second = (
        PatchDensity.fit(bent_patches(20), torch.zeros(20, 1), QUICK, 0, losses=losses)
        for losses in (None, told.append)
    )
    assert told
    tensors = first.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in second.state_dict().items())
    statistics = torch.cat([drawn(400, 4), drawn(400, 4).square()], dim=1)
    wholes = [PartDensity.fit(statistics, QUICK, 0, losses=losses) for losses in (None, told.append)]
    tensors = wholes[0].state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in wholes[1].state_dict().items())
