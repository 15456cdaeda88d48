"""Densities of good parts, and the detector that fits, calibrates and inspects."""

from differnet.detection.bundle import BundleError
from differnet.detection.densities import DensitySettings, PartDensity, PatchDensity
from differnet.detection.detector import Detector
from differnet.detection.family import Family
from differnet.detection.settings import DetectorError, DetectorSettings
from differnet.detection.statistics import PatchScale, patch_vectors, pooled_statistics

__all__ = [
    "BundleError",
    "DensitySettings",
    "Detector",
    "DetectorError",
    "DetectorSettings",
    "Family",
    "PartDensity",
    "PatchDensity",
    "PatchScale",
    "patch_vectors",
    "pooled_statistics",
]
