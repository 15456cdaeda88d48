"""Tuning: what two thresholds do, promise and cost, and how they come into force. No Streamlit, no torch."""

from differnet.tuning.axes import Axis, Bars, bars, p_value_axis, strangeness_axis
from differnet.tuning.basis import Basis, basis_of, state_of
from differnet.tuning.changing import ChangeError, Place, history_of, put_in_force, roll_back, set_by_hand
from differnet.tuning.curves import (
    CostCurve,
    Curve,
    OperatingPoint,
    Quantiles,
    Separation,
    cost_curve,
    deviates,
    operating_point,
    separation,
    uniform_quantiles,
)
from differnet.tuning.flipping import Flip, changed_verdicts, flips
from differnet.tuning.moving import Expected, KindRow, Moved, by_kind, difference_words, expect, move
from differnet.tuning.parts import Parts, parts_of, parts_of_records
from differnet.tuning.promising import drifted, limits, promises
from differnet.tuning.wishes import Evidence, Wish, WishError, suggest

__all__ = [
    "Axis",
    "Bars",
    "Basis",
    "ChangeError",
    "CostCurve",
    "Curve",
    "Evidence",
    "Expected",
    "Flip",
    "KindRow",
    "Moved",
    "OperatingPoint",
    "Parts",
    "Place",
    "Quantiles",
    "Separation",
    "Wish",
    "WishError",
    "bars",
    "basis_of",
    "by_kind",
    "changed_verdicts",
    "cost_curve",
    "deviates",
    "difference_words",
    "drifted",
    "expect",
    "flips",
    "history_of",
    "limits",
    "move",
    "operating_point",
    "p_value_axis",
    "parts_of",
    "parts_of_records",
    "promises",
    "put_in_force",
    "roll_back",
    "separation",
    "set_by_hand",
    "state_of",
    "strangeness_axis",
    "suggest",
    "uniform_quantiles",
]
