"""Anomaly detection on normalizing flows, with verdicts whose error rate is stated.

    from differnet import Detector
    detector = Detector().fit(good_pictures).calibrate()
    detector.inspect("part.png").record.verdict

Names are loaded when they are first used: importing the package alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from differnet.calibration import CalibrationError
    from differnet.detection import BundleError, Detector, DetectorError, DetectorSettings
    from differnet.features import WeightsError
    from differnet.flows import FlowError
    from differnet.images.layouts import LayoutError, read_layout
    from differnet.images.reading import ImageError, ReadingRule, read_image
    from differnet.records import DiffernetError, Inspection, Picture, Record, Region, Verdict

_HOMES = {
    "BundleError": "differnet.detection",
    "CalibrationError": "differnet.calibration",
    "Detector": "differnet.detection",
    "DetectorError": "differnet.detection",
    "DetectorSettings": "differnet.detection",
    "DiffernetError": "differnet.records",
    "FlowError": "differnet.flows",
    "ImageError": "differnet.images.reading",
    "Inspection": "differnet.records",
    "LayoutError": "differnet.images.layouts",
    "Picture": "differnet.records",
    "ReadingRule": "differnet.images.reading",
    "Record": "differnet.records",
    "Region": "differnet.records",
    "Verdict": "differnet.records",
    "WeightsError": "differnet.features",
    "read_image": "differnet.images.reading",
    "read_layout": "differnet.images.layouts",
}

__all__ = [
    "BundleError",
    "CalibrationError",
    "Detector",
    "DetectorError",
    "DetectorSettings",
    "DiffernetError",
    "FlowError",
    "ImageError",
    "Inspection",
    "LayoutError",
    "Picture",
    "ReadingRule",
    "Record",
    "Region",
    "Verdict",
    "WeightsError",
    "__version__",
    "read_image",
    "read_layout",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'differnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
