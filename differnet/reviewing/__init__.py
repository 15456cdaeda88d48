"""From a person's judgement back to a better model: reviews, retraining, comparison, promotion.

Nothing here loads torch by itself, so that asking what people said stays quick.
"""

from differnet.reviewing.comparing import (
    ComparedPart,
    Comparison,
    ComparisonError,
    Pair,
    Side,
    compare,
    comparison_of,
    keep,
    kept_comparison,
)
from differnet.reviewing.export import Exported, export, is_kind, set_aside, unsure
from differnet.reviewing.judgements import (
    Agreement,
    LastWord,
    Located,
    Lost,
    ReviewError,
    agreement,
    find_item,
    last_words,
    locate,
)
from differnet.reviewing.promotion import (
    PromotionError,
    carry_thresholds,
    keep_thresholds_beside_previous,
    no_previous,
    objections,
    previous_of,
    promote,
    put_back,
    recover,
)
from differnet.reviewing.retraining import Plan, plan, same_settings

__all__ = [
    "Agreement",
    "ComparedPart",
    "Comparison",
    "ComparisonError",
    "Exported",
    "LastWord",
    "Located",
    "Lost",
    "Pair",
    "Plan",
    "PromotionError",
    "ReviewError",
    "Side",
    "agreement",
    "carry_thresholds",
    "compare",
    "comparison_of",
    "export",
    "find_item",
    "is_kind",
    "keep",
    "keep_thresholds_beside_previous",
    "kept_comparison",
    "last_words",
    "locate",
    "no_previous",
    "objections",
    "plan",
    "previous_of",
    "promote",
    "put_back",
    "recover",
    "same_settings",
    "set_aside",
    "unsure",
]
