"""Densities of good parts, the detector that fits, calibrates and inspects, and methods beside it."""

from differnet.detection.bundle import BundleError
from differnet.detection.densities import DensitySettings, PartDensity, PatchDensity
from differnet.detection.detector import Detector
from differnet.detection.family import Family
from differnet.detection.founding import DifferNet, DifferNetSettings
from differnet.detection.gaussian import PooledGaussian
from differnet.detection.method import Judgement, Method, MethodError, MethodSettings
from differnet.detection.revising import InForce, adopt_current, belongs, in_force, revision_of, revisions_of
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.statistics import PatchScale, patch_vectors, pooled_statistics

__all__ = [
    "BundleError",
    "DensitySettings",
    "Detector",
    "DetectorError",
    "DetectorSettings",
    "DifferNet",
    "DifferNetSettings",
    "Family",
    "InForce",
    "Judgement",
    "Method",
    "MethodError",
    "MethodSettings",
    "PartDensity",
    "PatchDensity",
    "PatchScale",
    "PooledGaussian",
    "adopt_current",
    "belongs",
    "in_force",
    "patch_vectors",
    "pooled_statistics",
    "revision_of",
    "revisions_of",
]
