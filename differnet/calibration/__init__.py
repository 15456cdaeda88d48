"""Calibration: p-values, thresholds and verdicts. Arrays in, arrays out, no torch.

`Revisions` alone knows a file: that of the thresholds that were put in force.
"""

from differnet.calibration.combination import combine_p_values, surprise, together
from differnet.calibration.conformal import (
    CalibrationError,
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
from differnet.calibration.expectation import Expectation, Kernel
from differnet.calibration.heat import HEAT_NUMBERS, HeatScale
from differnet.calibration.monitor import Monitor, MonitorState, log10_wealth, online_p_values
from differnet.calibration.origins import GoodFigures, OriginRule
from differnet.calibration.placing import drift_of_p_values, placed
from differnet.calibration.revisions import Revision, RevisionError, Revisions
from differnet.calibration.suspects import suspects
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
    "Revision",
    "RevisionError",
    "Revisions",
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
