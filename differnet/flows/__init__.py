"""Normalizing flows: transforms with exact log-determinants, and densities made of them."""

from differnet.flows.coupling import AffineCoupling
from differnet.flows.density import Evidence, Flow, real_nvp, shrinkage_whitening
from differnet.flows.elementwise import ElementwiseAffine, Leading
from differnet.flows.health import HealthReport, UnhealthyFlow, audit, measure_health
from differnet.flows.linear import LowRankWhitening, Permutation, Whitening
from differnet.flows.training import TrainingPlan, fit_maximum_likelihood
from differnet.flows.transform import Compose, FlowError, Inverse, Transform

__all__ = [
    "AffineCoupling",
    "Compose",
    "ElementwiseAffine",
    "Evidence",
    "Flow",
    "FlowError",
    "HealthReport",
    "Inverse",
    "Leading",
    "LowRankWhitening",
    "Permutation",
    "TrainingPlan",
    "Transform",
    "UnhealthyFlow",
    "Whitening",
    "audit",
    "fit_maximum_likelihood",
    "measure_health",
    "real_nvp",
    "shrinkage_whitening",
]
