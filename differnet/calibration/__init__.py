"""Calibration: p-values, thresholds and verdicts. Arrays in, arrays out, no torch."""

from differnet.calibration.combination import surprise, together
from differnet.calibration.conformal import (
    CalibrationError,
    false_alarm_interval,
    p_values,
    smallest_alpha,
    threshold,
)
from differnet.calibration.expectation import Expectation, Kernel
from differnet.calibration.heat import HEAT_NUMBERS, HeatScale
from differnet.calibration.origins import GoodFigures, OriginRule
from differnet.calibration.suspects import suspects
from differnet.calibration.tails import TailScale, held_out_strangeness
from differnet.calibration.verdict import OOD_STRANGENESS, CalibratedEvidence, Thresholds, decide

__all__ = [
    "HEAT_NUMBERS",
    "OOD_STRANGENESS",
    "CalibratedEvidence",
    "CalibrationError",
    "Expectation",
    "GoodFigures",
    "HeatScale",
    "Kernel",
    "OriginRule",
    "TailScale",
    "Thresholds",
    "decide",
    "false_alarm_interval",
    "held_out_strangeness",
    "p_values",
    "smallest_alpha",
    "surprise",
    "suspects",
    "threshold",
    "together",
]
