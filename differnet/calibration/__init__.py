"""Calibration: p-values, thresholds and verdicts. Arrays in, arrays out, no torch.

`Revisions` alone knows a file: that of the thresholds that were put in force. Names are loaded when they are
first used: judging a picture needs a few of them, and none of scipy's laws.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from differnet.calibration.combination import combine_p_values, surprise, together
    from differnet.calibration.conformal import (
        CalibrationError,
        Ranks,
        cross_bound,
        cross_p_values,
        false_alarm_interval,
        p_values,
        p_values_by_group,
        require_disjoint,
        smallest_alpha,
        smoothed_p_values,
        threshold,
        thresholds_by_group,
    )
    from differnet.calibration.discovery import (
        Discoveries,
        GoodAmongFlagged,
        benjamini_hochberg,
        good_among_flagged,
        share_of_good,
    )
    from differnet.calibration.drift import (
        BatchDrift,
        Movement,
        batch_drift,
        detectable_shift,
        movement_words,
        what_drifted,
    )
    from differnet.calibration.expectation import Expectation, Kernel, Spectra
    from differnet.calibration.heat import HEAT_NUMBERS, HeatScale
    from differnet.calibration.monitor import Monitor, MonitorState, log10_wealth, online_p_values
    from differnet.calibration.origins import GoodFigures, OriginRule
    from differnet.calibration.placing import drift_of_p_values, placed
    from differnet.calibration.revisions import Revision, RevisionError, Revisions
    from differnet.calibration.suspicion import suspects
    from differnet.calibration.tails import TailScale, held_out_strangeness
    from differnet.calibration.thresholds import (
        ExpectedCosts,
        Suggestion,
        by_cost,
        by_escape,
        by_f1,
        by_fdr,
        by_hand,
        by_label,
        by_overkill,
        by_review_budget,
        expected_costs,
        without_defects,
    )
    from differnet.calibration.typicality import Typicality, several_statistics, typicality_p_values
    from differnet.calibration.verdict import (
        LEARNED,
        OOD_STRANGENESS,
        CalibratedEvidence,
        Thresholds,
        decide,
    )

_HOMES = {
    "combination": (
        "combine_p_values",
        "surprise",
        "together",
    ),
    "conformal": (
        "CalibrationError",
        "Ranks",
        "cross_bound",
        "cross_p_values",
        "false_alarm_interval",
        "p_values",
        "p_values_by_group",
        "require_disjoint",
        "smallest_alpha",
        "smoothed_p_values",
        "threshold",
        "thresholds_by_group",
    ),
    "discovery": (
        "Discoveries",
        "GoodAmongFlagged",
        "benjamini_hochberg",
        "good_among_flagged",
        "share_of_good",
    ),
    "drift": (
        "BatchDrift",
        "Movement",
        "batch_drift",
        "detectable_shift",
        "movement_words",
        "what_drifted",
    ),
    "expectation": (
        "Expectation",
        "Kernel",
        "Spectra",
    ),
    "heat": (
        "HEAT_NUMBERS",
        "HeatScale",
    ),
    "monitor": (
        "Monitor",
        "MonitorState",
        "log10_wealth",
        "online_p_values",
    ),
    "origins": (
        "GoodFigures",
        "OriginRule",
    ),
    "placing": (
        "drift_of_p_values",
        "placed",
    ),
    "revisions": (
        "Revision",
        "RevisionError",
        "Revisions",
    ),
    "suspicion": ("suspects",),
    "tails": (
        "TailScale",
        "held_out_strangeness",
    ),
    "thresholds": (
        "ExpectedCosts",
        "Suggestion",
        "by_cost",
        "by_escape",
        "by_f1",
        "by_fdr",
        "by_hand",
        "by_label",
        "by_overkill",
        "by_review_budget",
        "expected_costs",
        "without_defects",
    ),
    "typicality": (
        "Typicality",
        "several_statistics",
        "typicality_p_values",
    ),
    "verdict": (
        "LEARNED",
        "OOD_STRANGENESS",
        "CalibratedEvidence",
        "Thresholds",
        "decide",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "HEAT_NUMBERS",
    "LEARNED",
    "OOD_STRANGENESS",
    "BatchDrift",
    "CalibratedEvidence",
    "CalibrationError",
    "Discoveries",
    "Expectation",
    "ExpectedCosts",
    "GoodAmongFlagged",
    "GoodFigures",
    "HeatScale",
    "Kernel",
    "Monitor",
    "MonitorState",
    "Movement",
    "OriginRule",
    "Ranks",
    "Revision",
    "RevisionError",
    "Revisions",
    "Spectra",
    "Suggestion",
    "TailScale",
    "Thresholds",
    "Typicality",
    "batch_drift",
    "benjamini_hochberg",
    "by_cost",
    "by_escape",
    "by_f1",
    "by_fdr",
    "by_hand",
    "by_label",
    "by_overkill",
    "by_review_budget",
    "combine_p_values",
    "cross_bound",
    "cross_p_values",
    "decide",
    "detectable_shift",
    "drift_of_p_values",
    "expected_costs",
    "false_alarm_interval",
    "good_among_flagged",
    "held_out_strangeness",
    "log10_wealth",
    "movement_words",
    "online_p_values",
    "p_values",
    "p_values_by_group",
    "placed",
    "require_disjoint",
    "several_statistics",
    "share_of_good",
    "smallest_alpha",
    "smoothed_p_values",
    "surprise",
    "suspects",
    "threshold",
    "thresholds_by_group",
    "together",
    "typicality_p_values",
    "what_drifted",
    "without_defects",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'differnet.calibration' has no attribute {name!r}")
    return getattr(import_module(f"differnet.calibration.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
