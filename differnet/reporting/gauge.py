"""Where the strangeness of one part lies between the thresholds, as a small drawing."""

from __future__ import annotations

import math

from markupsafe import Markup

from differnet.records import Record

# At least 3:1 against white and against a dark ground.
_BAND, _RULE, _MARK = "#d99a1c", "#d0850a", "#4a86d8"
# Share of the width that a label takes, at the narrowest that a page draws it.
_LABEL = 18.0
_LINE = "position:absolute;top:16px;height:24px;border-left:2px {} {};left:{:.2f}%"
_WORDS = "position:absolute;top:{}px;left:{:.2f}%;transform:translateX({}%);white-space:nowrap"


def gauge(record: Record) -> Markup:
    """Draw a part's strangeness on a line with T1 (dashed) and T2 (solid), text in the colour of the page.

    Boxes of HTML, for a page that takes out drawings.

    Args:
        record: Of the part.

    Returns:
        HTML; empty where the part has no strangeness or no thresholds. Beyond five times T2 the mark stands
        at the end, as an arrow.

    Example:
        >>> from differnet.records import Verdict
        >>> part = Record("r", "i", "p", "", "", "", Verdict.REVIEW, (), strangeness=1.5, t_review=1,
        ...               t_defect=2)
        >>> "strangeness 1.50, T1 1.00, T2 2.00" in gauge(part)
        True
    """
    figures = (record.strangeness, record.t_review, record.t_defect)
    strangeness, t_review, t_defect = (math.nan if figure is None else figure for figure in figures)
    if not all(map(math.isfinite, (strangeness, t_review, t_defect))):
        return Markup()
    least = max(1.25 * t_defect, 1.25 * t_review, 1.0)
    upper = min(max(1.08 * strangeness, least), max(5 * t_defect, least))

    def place(figure: float) -> float:
        return 100 * min(max(figure / upper, 0.0), 1.0)

    left, right, here = place(t_review), place(t_defect), place(strangeness)
    # T1's label ends where it stands and T2's begins there: side by side even where both are as good as one.
    first = min(max(left + 1, _LABEL), 100 - _LABEL - 2)
    second = min(max(right - 1, first + 2), 100 - _LABEL)
    boxes = (
        "position:absolute;top:27px;left:0;right:0;border-top:2px solid currentColor;opacity:0.4",
        f"position:absolute;top:20px;height:16px;left:{left:.2f}%;width:{max(0.0, right - left):.2f}%;"
        f"background:{_BAND};opacity:0.3",
        _LINE.format("dashed", _RULE, left),
        _LINE.format("solid", _RULE, right),
    )
    # An arrow where the figure lies beyond the line.
    mark = "\N{BLACK RIGHT-POINTING TRIANGLE}" if strangeness > upper else "\N{BLACK DIAMOND}"
    words = (
        (_WORDS.format(14, here, -50) + f";color:{_MARK};font-size:18px", mark),
        (_WORDS.format(-6, min(max(here, _LABEL / 2), 100 - _LABEL / 2), -50), f"{strangeness:.2f}"),
        (_WORDS.format(42, first, -100), f"T1 {t_review:.2f}"),
        (_WORDS.format(42, second, 0), f"T2 {t_defect:.2f}"),
    )
    drawn = [Markup('<div style="{}"></div>').format(style) for style in boxes]
    drawn += [Markup('<div style="{}">{}</div>').format(style, text) for style, text in words]
    told = f"strangeness {strangeness:.2f}, T1 {t_review:.2f}, T2 {t_defect:.2f}"
    return Markup(
        '<div role="img" aria-label="{}" style="position:relative;height:64px;margin:8px 0 0;'
        'max-width:30rem;font-size:13px;line-height:1.4">{}</div>'
    ).format(told, Markup("").join(drawn))
