"""Normalizing flows: transforms with exact log-determinants, and densities made of them."""

from differnet.flows.augmentation import AugmentedFlow, augmented, augmented_bound
from differnet.flows.autoregressive import AffineAutoregressive, Autoregressive, SplineAutoregressive
from differnet.flows.continuous import ContinuousTransform, Regularised, ffjord, rnode
from differnet.flows.coupling import AdditiveCoupling, AffineCoupling, Coupling, SplineCoupling
from differnet.flows.density import Density, Evidence, Flow
from differnet.flows.dequantisation import (
    Logit,
    bits_per_dimension,
    dequantise,
    dequantised_likelihood,
    quantise,
)
from differnet.flows.elementwise import ElementwiseAffine, Leading, Scaling
from differnet.flows.glow_layers import ActNorm, ConvolutionalCoupling, InvertibleLinear, glow
from differnet.flows.health import (
    HealthReport,
    UnhealthyFlow,
    audit,
    measure_health,
    round_trip_errors,
)
from differnet.flows.linear import Permutation
from differnet.flows.maps import AdditiveMap, AffineMap, FeatureMap, SplineMap
from differnet.flows.multiscale import checkerboard, glow_image, real_nvp_image, squeeze
from differnet.flows.objectives import flow_matching, regularised_nll
from differnet.flows.planar_radial import Planar, Radial
from differnet.flows.presets import (
    iaf,
    maf,
    nice,
    planar,
    radial,
    real_nvp,
    spline_autoregressive,
    spline_coupling,
)
from differnet.flows.tolerances import ToleranceRow, tolerance_table
from differnet.flows.training import (
    HeldOutCheck,
    Material,
    TrainingPlan,
    fit_maximum_likelihood,
    fit_reverse_kl,
)
from differnet.flows.transform import Compose, FlowError, Inverse, Transform
from differnet.flows.velocity import PerceptronVelocity, Velocity
from differnet.flows.whitening import (
    LowRankWhitening,
    Whitening,
    leave_one_out,
    leave_one_out_energies,
    shrinkage_whitening,
)

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AdditiveMap",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineMap",
    "AugmentedFlow",
    "Autoregressive",
    "Compose",
    "ContinuousTransform",
    "ConvolutionalCoupling",
    "Coupling",
    "Density",
    "ElementwiseAffine",
    "Evidence",
    "FeatureMap",
    "Flow",
    "FlowError",
    "HealthReport",
    "HeldOutCheck",
    "Inverse",
    "InvertibleLinear",
    "Leading",
    "Logit",
    "LowRankWhitening",
    "Material",
    "PerceptronVelocity",
    "Permutation",
    "Planar",
    "Radial",
    "Regularised",
    "Scaling",
    "SplineAutoregressive",
    "SplineCoupling",
    "SplineMap",
    "ToleranceRow",
    "TrainingPlan",
    "Transform",
    "UnhealthyFlow",
    "Velocity",
    "Whitening",
    "audit",
    "augmented",
    "augmented_bound",
    "bits_per_dimension",
    "checkerboard",
    "dequantise",
    "dequantised_likelihood",
    "ffjord",
    "fit_maximum_likelihood",
    "fit_reverse_kl",
    "flow_matching",
    "glow",
    "glow_image",
    "iaf",
    "leave_one_out",
    "leave_one_out_energies",
    "maf",
    "measure_health",
    "nice",
    "planar",
    "quantise",
    "radial",
    "real_nvp",
    "real_nvp_image",
    "regularised_nll",
    "rnode",
    "round_trip_errors",
    "shrinkage_whitening",
    "spline_autoregressive",
    "spline_coupling",
    "squeeze",
    "tolerance_table",
]
