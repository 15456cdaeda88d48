"""Calibration: p-values, thresholds and verdicts. Arrays in, arrays out, no torch."""

from differnet.calibration.combination import combine_p_values, surprise, together
from differnet.calibration.conformal import (
    CalibrationError,
    false_alarm_interval,
    p_values,
    smallest_alpha,
    threshold,
)
from differnet.calibration.drift import BatchDrift, Movement, batch_drift, what_drifted
from differnet.calibration.expectation import Expectation, Kernel
from differnet.calibration.heat import HEAT_NUMBERS, HeatScale
from differnet.calibration.monitor import Monitor, MonitorState, log10_wealth, online_p_values
from differnet.calibration.origins import GoodFigures, OriginRule
from differnet.calibration.suspects import suspects
from differnet.calibration.tails import TailScale, held_out_strangeness
from differnet.calibration.typicality import Typicality, several_statistics, typicality_p_values
from differnet.calibration.verdict import OOD_STRANGENESS, CalibratedEvidence, Thresholds, decide

__all__ = [
    "HEAT_NUMBERS",
    "OOD_STRANGENESS",
    "BatchDrift",
    "CalibratedEvidence",
    "CalibrationError",
    "Expectation",
    "GoodFigures",
    "HeatScale",
    "Kernel",
    "Monitor",
    "MonitorState",
    "Movement",
    "OriginRule",
    "TailScale",
    "Thresholds",
    "Typicality",
    "batch_drift",
    "combine_p_values",
    "decide",
    "false_alarm_interval",
    "held_out_strangeness",
    "log10_wealth",
    "online_p_values",
    "p_values",
    "several_statistics",
    "smallest_alpha",
    "surprise",
    "suspects",
    "threshold",
    "together",
    "typicality_p_values",
    "what_drifted",
]
