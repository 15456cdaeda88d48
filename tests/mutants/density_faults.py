"""Faults of densities, of estimated whitenings and of training."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from flows import checks
from flows.checks import FLOW_CHECKS, TRAINING_CHECKS
from torch import Tensor

from differnet.flows import Evidence, Flow, TrainingPlan, training
from mutants.faults import Fault, Pair, Plant, replace, wrap


def flow_faults() -> list[Fault]:
    """Return densities without a term, samples that are none, and evidence by the wrong formula."""

    def z_only(_: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        z: Tensor = self.transform(x, context)[0]
        return -0.5 * (z.square().sum(-1) + self.features * math.log(2 * math.pi))

    def one_constant(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) + 0.5 * (self.features - 1) * math.log(2 * math.pi)
        return log_prob

    def no_constant(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) + 0.5 * self.features * math.log(2 * math.pi)
        return log_prob

    def sign(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        log_prob: Tensor = true(self, x, context) - 2 * self.transform(x, context)[1]
        return log_prob

    def evidence_z_only(true: Any, self: Flow, x: Tensor, context: Tensor | None = None) -> Evidence:
        evidence: Evidence = true(self, x, context)
        return evidence._replace(nll=evidence.nll + self.transform(x, context)[1])

    def latent(_: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any) -> Tensor:
        return torch.randn(*shape, self.features, dtype=torch.float64, **given)

    def wrong_way(
        _: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any
    ) -> Tensor:
        x: Tensor = self.transform(latent(_, self, shape, context, **given), context)[0]
        return x

    def no_condition(
        true: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any
    ) -> Any:
        return true(self, shape, None if context is None else torch.zeros_like(context), **given)

    def uncentred(true: Any, self: Flow, *given: Any) -> Evidence:
        evidence: Evidence = true(self, *given)
        return evidence._replace(typicality=evidence.typicality + self.features / 2)

    def nll_twice(true: Any, self: Flow, *given: Any) -> Evidence:
        nll = true(self, *given).nll
        return Evidence(nll, nll)

    def by_latent(_: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any) -> Pair:
        z: Tensor = self._latent(shape, **given)
        x, _log_det = self.transform.inverse(z, context)
        return x, -0.5 * (z.square().sum(-1) + self.features * math.log(2 * math.pi))

    def added(_: Any, self: Flow, shape: tuple[int, ...] = (), context: Any = None, **given: Any) -> Pair:
        x, log_prob = by_latent(_, self, shape, context, **given)
        return x, log_prob - self.transform(x, context)[1]

    def detached(true: Any, self: Flow, *given: Any, **settings: Any) -> Any:
        drawn = true(self, *given, **settings)
        return drawn.detach() if isinstance(drawn, Tensor) else (drawn[0].detach(), drawn[1])

    def half_detached(true: Any, self: Flow, *given: Any, **settings: Any) -> Tensor:
        x: Tensor = true(self, *given, **settings)
        return (x + x.detach()) / 2

    def density_detached(true: Any, self: Flow, *given: Any, **settings: Any) -> Pair:
        x, log_prob = true(self, *given, **settings)
        return x, log_prob.detach()

    def alive(_: Any, self: Flow, *given: Any, **settings: Any) -> Any:
        return self.rsample_and_log_prob(*given, **settings)

    # The evidence is not integrated and the densities are not sampled: the suite stays short.
    of_evidence = {name: FLOW_CHECKS[name] for name in ("evidence_is_log_prob", "whitening_is_the_gaussian")}
    of_density = {
        name: check
        for name, check in FLOW_CHECKS.items()
        if name.startswith(("integrates", "samples_follow"))
    }
    together, gradients = "samples_come_with_their_density", "samples_have_gradients"
    of_pairs = {name: FLOW_CHECKS[name] for name in (together, gradients)}
    in_one, in_two = "integrates_in_one_dimension", "integrates_in_two_dimensions"
    planted: list[tuple[str, str, Callable[..., Any], str]] = [
        ("log_prob of z alone", "log_prob", z_only, in_two),
        ("log_prob subtracts log_det", "log_prob", sign, in_two),
        ("log_prob with one constant for all features", "log_prob", one_constant, in_two),
        ("log_prob without a constant", "log_prob", no_constant, in_one),
        ("nll of z alone", "evidence", evidence_z_only, "evidence_is_log_prob"),
        ("typicality not centred", "evidence", uncentred, "evidence_is_log_prob"),
        ("typicality is nll", "evidence", nll_twice, "evidence_is_log_prob"),
        ("samples are latent", "sample", latent, "samples_follow_the_density"),
        ("samples mapped the wrong way", "sample", wrong_way, "samples_follow_the_density"),
        ("samples ignore the context", "sample", no_condition, "samples_follow_the_density"),
        ("rsample is detached", "rsample", detached, gradients),
        ("the gradient of rsample is halved", "rsample", half_detached, gradients),
        ("the x of rsample_and_log_prob is detached", "rsample_and_log_prob", detached, gradients),
        (
            "the density of rsample_and_log_prob is detached",
            "rsample_and_log_prob",
            density_detached,
            gradients,
        ),
        ("the log_prob of samples has the other sign of log_det", "rsample_and_log_prob", added, together),
        ("the log_prob of samples is that of z", "rsample_and_log_prob", by_latent, together),
        ("sample_and_log_prob keeps gradients", "sample_and_log_prob", alive, together),
        ("rsample ignores the context", "rsample", no_condition, together),
    ]
    return [
        Fault(
            f"Flow: {what}",
            wrap(Flow, (name,), faulty),
            {"evidence": of_evidence, "log_prob": of_density, "sample": of_density}.get(name, of_pairs),
            by,
        )
        for what, name, faulty, by in planted
    ]


def estimation_faults() -> list[Fault]:
    """Return wrong estimates of a shrunk covariance."""

    def bessel(true: Any, vectors: Tensor, **given: Any) -> Any:
        grown = vectors.mean(0) + (vectors - vectors.mean(0)) * (len(vectors) / (len(vectors) - 1)) ** 0.5
        return true(grown, **given)

    def with_noise(noise: Callable[[float], float]) -> Callable[..., Any]:
        return lambda true, vectors, **given: true(
            vectors, **given | {"noise": noise(given.get("noise", 0.0))}
        )

    planted: dict[str, Callable[..., Any]] = {
        "smoothing noise ignored": with_noise(lambda noise: 0.0),
        "noise is taken for a variance": with_noise(lambda noise: noise**0.5),
        "never shrunk": lambda true, vectors, **given: true(vectors, **{"shrinkage": 0.0} | given),
        "given shrinkage ignored": lambda true, vectors, **given: true(
            vectors, **given | {"shrinkage": None}
        ),
        "divided by n - 1": bessel,
    }
    by = "shrinkage_is_ledoit_wolf"
    return [
        Fault(
            f"shrinkage_whitening: {what}",
            wrap(checks, ("shrinkage_whitening",), faulty),
            {by: FLOW_CHECKS[by]},
            by,
        )
        for what, faulty in planted.items()
    ]


def training_faults() -> list[Fault]:
    """Return trainings without noise, seed, context or effect."""

    def replanned(change: Callable[[TrainingPlan], dict[str, Any]]) -> Callable[..., Any]:
        def faulty(true: Any, *given: Any, plan: TrainingPlan, **settings: Any) -> Flow:
            flow: Flow = true(*given, plan=dataclasses.replace(plan, **change(plan)), **settings)
            return flow

        return faulty

    def blurred(change: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda true, *given, noise=0.0, **settings: true(*given, noise=change(noise), **settings)

    def untrained(_: Any, flow: Flow, *given: Any, **settings: Any) -> Flow:
        return flow.eval()

    def moves_buffers(true: Any, flow: Flow, *given: Any, **settings: Any) -> Flow:
        trained: Flow = true(flow, *given, **settings)
        for buffer in trained.buffers():
            if buffer.is_floating_point():
                buffer.add_(1e-6)
        return trained

    def without_context(true: Any, flow: Flow, vectors: Tensor, *context: Tensor, **settings: Any) -> Flow:
        trained: Flow = true(flow, vectors, *[torch.zeros_like(given) for given in context], **settings)
        return trained

    def on_training_vectors(
        true: Any, flow: Flow, vectors: Tensor, *context: Tensor, held_out: Any = None, **settings: Any
    ) -> Flow:
        seen = None if held_out is None else (vectors, *(context or (None,)))
        trained: Flow = true(flow, vectors, *context, held_out=seen, **settings)
        return trained

    def trained_on_too(
        true: Any, flow: Flow, vectors: Tensor, *context: Tensor, held_out: Any = None, **settings: Any
    ) -> Flow:
        every = vectors if held_out is None else torch.cat([vectors, held_out[0]])
        trained: Flow = true(flow, every, *context, held_out=held_out, **settings)
        return trained

    first: list[dict[str, Tensor]] = []

    def once(state: dict[str, Tensor]) -> dict[str, Tensor]:
        if not first:
            first.append(copy.deepcopy(state))
        return first[0]

    held_out: list[tuple[str, Plant, str]] = [
        (
            "last weights kept instead of the best",
            # What happens where the best weights are kept without a copy.
            replace(training, "copy", SimpleNamespace(deepcopy=lambda state: state)),
            "keeps_the_best_held_out_weights",
        ),
        (
            "weights of the first look kept",
            replace(training, "copy", SimpleNamespace(deepcopy=once)),
            "keeps_the_best_held_out_weights",
        ),
        (
            "held-out loss measured on training vectors",
            wrap(checks, ("fit_maximum_likelihood",), on_training_vectors),
            "keeps_the_best_held_out_weights",
        ),
        (
            "held-out loss is a sum",
            wrap(training, ("_mean_loss",), lambda true, flow, x, *given: len(x) * true(flow, x, *given)),
            "keeps_the_best_held_out_weights",
        ),
        (
            "patience ignored",
            wrap(checks, ("fit_maximum_likelihood",), replanned(lambda plan: {"patience": plan.steps + 1})),
            "patience_ends_training",
        ),
        (
            "one look too patient",
            wrap(
                checks, ("fit_maximum_likelihood",), replanned(lambda plan: {"patience": plan.patience + 1})
            ),
            "patience_ends_training",
        ),
        (
            "held-out vectors trained on too",
            wrap(checks, ("fit_maximum_likelihood",), trained_on_too),
            "held_out_vectors_are_not_trained_on",
        ),
    ]
    planted: list[tuple[str, Callable[..., Any], str]] = [
        ("smoothing noise ignored", blurred(lambda noise: 0.0), "smoothing_widens"),
        (
            "noise is taken for a variance",
            blurred(lambda noise: torch.as_tensor(noise).sqrt()),
            "smoothing_widens",
        ),
        (
            "one noise for all features",
            blurred(lambda noise: float(torch.as_tensor(noise).mean())),
            "smoothing_widens",
        ),
        ("seed ignored", replanned(lambda plan: {"seed": 0}), "seeds_decide_weights"),
        (
            "seed from torch's own generator",
            replanned(lambda plan: {"seed": int(torch.randint(1 << 30, ()))}),
            "seeds_decide_weights",
        ),
        (
            "context noise ignored",
            replanned(lambda plan: {"context_noise": 0.0}),
            "context_settings_take_effect",
        ),
        (
            "context dropout ignored",
            replanned(lambda plan: {"context_dropout": 0.0}),
            "context_settings_take_effect",
        ),
        ("context not shown", without_context, "learns_the_conditional_mean"),
        ("nothing trained", untrained, "learns_the_conditional_mean"),
        ("buffers trained too", moves_buffers, "training_leaves_buffers"),
    ]
    of_fit = [
        (f"fit_maximum_likelihood: {what}", wrap(checks, ("fit_maximum_likelihood",), faulty), by)
        for what, faulty, by in planted
    ]
    of_looks = [(f"fit_maximum_likelihood: {what}", plant, by) for what, plant, by in held_out]
    return [
        Fault(name, plant, {by: TRAINING_CHECKS[by]}, by)
        for name, plant, by in (*of_fit, *of_looks, *reverse_kl_faults())
    ]


def reverse_kl_faults() -> list[tuple[str, Plant, str]]:
    def nothing_of(true: Any, self: Flow, *given: Any, **settings: Any) -> Pair:
        x, log_prob = true(self, *given, **settings)
        return x, torch.zeros_like(log_prob)

    def negative(true: Any, self: Flow, *given: Any, **settings: Any) -> Pair:
        x, log_prob = true(self, *given, **settings)
        return x, -log_prob

    def still(true: Any, self: Flow, *given: Any, **settings: Any) -> Pair:
        x, log_prob = true(self, *given, **settings)
        return x.detach(), log_prob

    def lukewarm(true: Any, flow: Flow, energy: Any, *given: Any, **settings: Any) -> Flow:
        trained: Flow = true(flow, lambda x: 0.5 * energy(x), *given, **settings)
        return trained

    by = "reverse_kl_finds_the_gaussian"
    drawn = ("rsample_and_log_prob",)
    return [
        ("fit_reverse_kl: log_prob left out", wrap(Flow, drawn, nothing_of), by),
        ("fit_reverse_kl: log_prob with the wrong sign", wrap(Flow, drawn, negative), by),
        ("fit_reverse_kl: samples without gradients", wrap(Flow, drawn, still), by),
        ("fit_reverse_kl: heated to the end", wrap(checks, ("fit_reverse_kl",), lukewarm), by),
    ]


DENSITY_FAULTS: tuple[Fault, ...] = (*flow_faults(), *estimation_faults(), *training_faults())
