"""How well strangeness tells defects from good parts, and how sure that is: arrays in, numbers out."""

from differnet.evaluation.control_chart import ControlChart, p_chart, same_share, signal_words
from differnet.evaluation.intervals import (
    AurocDifference,
    AurocInterval,
    Rate,
    auroc_difference,
    auroc_interval,
    auroc_standard_error,
    largest_rate,
    p_value_uniformity,
    percent,
    proportion_interval,
    rate,
)
from differnet.evaluation.metrics import (
    MetricError,
    PixelCurves,
    aupr,
    by_kind,
    f1_oracle,
    fpr_at_tpr,
    image_auroc,
)

__all__ = [
    "AurocDifference",
    "AurocInterval",
    "ControlChart",
    "MetricError",
    "PixelCurves",
    "Rate",
    "aupr",
    "auroc_difference",
    "auroc_interval",
    "auroc_standard_error",
    "by_kind",
    "f1_oracle",
    "fpr_at_tpr",
    "image_auroc",
    "largest_rate",
    "p_chart",
    "p_value_uniformity",
    "percent",
    "proportion_interval",
    "rate",
    "same_share",
    "signal_words",
]
