"""Densities of good parts, the detector that fits, calibrates and inspects, and methods beside it.

Names are loaded when they are first used: what only reads a bundle's calibration, or the thresholds that
were set for it, needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from differnet.detection.densities import PartDensity, PatchDensity
    from differnet.detection.detector import Detector
    from differnet.detection.examining import Examined, ModelCheck, examine_bundle
    from differnet.detection.explaining import (
        POOLED,
        EvidenceMap,
        Explanation,
        PatchChange,
        Statistic,
        WholeChange,
        explain,
    )
    from differnet.detection.family import Family
    from differnet.detection.founding import DifferNet, DifferNetSettings
    from differnet.detection.gaussian import PooledGaussian
    from differnet.detection.good_parts import GoodParts, read_good_parts
    from differnet.detection.inspector import Inspector
    from differnet.detection.manifest import BundleError
    from differnet.detection.method import Judgement, Method, MethodError, MethodSettings
    from differnet.detection.references import Reference, References
    from differnet.detection.revising import (
        InForce,
        adopt_current,
        belongs,
        in_force,
        revision_in_force,
        revision_of,
        revisions_of,
    )
    from differnet.detection.settings import DensitySettings, DetectorError, DetectorSettings, PatchScale
    from differnet.detection.statistics import patch_vectors, pooled_statistics
    from differnet.detection.typical import RoundTrip, nearest_typical

_HOMES = {
    "densities": ("PartDensity", "PatchDensity"),
    "detector": ("Detector",),
    "examining": ("Examined", "ModelCheck", "examine_bundle"),
    "explaining": (
        *("POOLED", "EvidenceMap", "Explanation", "PatchChange", "Statistic", "WholeChange", "explain"),
    ),
    "family": ("Family",),
    "founding": ("DifferNet", "DifferNetSettings"),
    "gaussian": ("PooledGaussian",),
    "good_parts": ("GoodParts", "read_good_parts"),
    "inspector": ("Inspector",),
    "manifest": ("BundleError",),
    "method": ("Judgement", "Method", "MethodError", "MethodSettings"),
    "references": ("Reference", "References"),
    "revising": (
        *("InForce", "adopt_current", "belongs", "in_force", "revision_in_force", "revision_of"),
        "revisions_of",
    ),
    "settings": ("DensitySettings", "DetectorError", "DetectorSettings", "PatchScale"),
    "statistics": ("patch_vectors", "pooled_statistics"),
    "typical": ("RoundTrip", "nearest_typical"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "POOLED",
    "BundleError",
    "DensitySettings",
    "Detector",
    "DetectorError",
    "DetectorSettings",
    "DifferNet",
    "DifferNetSettings",
    "EvidenceMap",
    "Examined",
    "Explanation",
    "Family",
    "GoodParts",
    "InForce",
    "Inspector",
    "Judgement",
    "Method",
    "MethodError",
    "MethodSettings",
    "ModelCheck",
    "PartDensity",
    "PatchChange",
    "PatchDensity",
    "PatchScale",
    "PooledGaussian",
    "Reference",
    "References",
    "RoundTrip",
    "Statistic",
    "WholeChange",
    "adopt_current",
    "belongs",
    "examine_bundle",
    "explain",
    "in_force",
    "nearest_typical",
    "patch_vectors",
    "pooled_statistics",
    "read_good_parts",
    "revision_in_force",
    "revision_of",
    "revisions_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'differnet.detection' has no attribute {name!r}")
    return getattr(import_module(f"differnet.detection.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
