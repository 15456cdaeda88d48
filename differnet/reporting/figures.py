"""Pictures for the report and the dashboard: SVG charts as text, heat-map overlays as pixels.

Charts take their colours from CSS variables of the page around them, so that one chart serves a
light page, a dark one and paper; each group also has a pattern or shape of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from differnet.records import Record, Region, Verdict
from differnet.reporting.counts import VERDICTS, Histogram, Truth

COLOUR_MAP = cv2.COLORMAP_INFERNO
"""Even steps in lightness, so that hotter is brighter also in print and to colour-blind eyes."""

DARKEST_COLOUR = 70
"""First entry of the colour map in use: below it inferno is black, which hides grey metal."""

SMALLEST_SIDE = 288
"""Pictures below this size are enlarged before lines are drawn on them, else lines bury defects."""

OPACITY = 0.8
"""Of the hottest colour in an overlay: the part stays visible below."""

_FILLS = {Truth.GOOD: "good", Truth.DEFECT: "defect", Truth.WRONG_INPUT: "ood", Truth.UNLABELLED: "invalid"}

_HATCHES = {
    Truth.DEFECT: '<path d="M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2"/>',
    Truth.WRONG_INPUT: '<path d="M0,0 l6,6 M0,6 l6,-6"/>',
    Truth.UNLABELLED: '<path d="M0,3 h6"/>',
}

_GLYPHS = {
    Verdict.PASS: '<circle cx="8" cy="8" r="6.5"/>',
    Verdict.REVIEW: '<path d="M8 1.2 L15.2 14.2 H0.8 Z"/>',
    Verdict.DEFECT: '<path d="M8 0.6 L15.4 8 L8 15.4 L0.6 8 Z"/>',
    Verdict.OOD: '<rect x="1.8" y="1.8" width="12.4" height="12.4"/>',
    Verdict.INVALID: '<path d="M2.5 2.5 L13.5 13.5 M13.5 2.5 L2.5 13.5" class="stroke"/>',
}


def verdict_glyph(verdict: Verdict) -> Markup:
    """Draw a verdict's shape: circle, triangle, diamond, square or cross.

    Args:
        verdict: Which.

    Returns:
        Inline SVG that is hidden from screen readers: the word always stands beside it.
    """
    shape = Markup(_GLYPHS[verdict])
    return Markup('<svg class="glyph {}" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(
        verdict.value.lower(), shape
    )


def histogram_svg(
    histogram: Histogram,
    t_review: float | None,
    t_defect: float | None,
    width: int = 720,
    name: str = "wide",
    *,
    rated: bool = True,
) -> Markup:
    """Draw strangeness as one row of bars a group, with both thresholds through all rows.

    Each row has its own height, so that five defects can be seen beside a thousand good parts.

    Args:
        histogram: Counts to draw.
        t_review: T1, or ``None`` to draw no line.
        t_defect: T2, or ``None`` to draw no line.
        width: Of the drawing, in its own units, which are CSS pixels when shown full size.
        name: Makes the drawing's ids unique on a page.
        rated: Say how many good parts are as strange; not where the model promises no rate.

    Returns:
        Inline SVG with title and description.
    """
    groups = [group for group in Truth if histogram.counts[group].any()]
    left, right, top, row_height = 46, 14, 34, 92
    plot_width = width - left - right
    bottom = top + row_height * max(1, len(groups))
    tops = {group: top + row_height * place for place, group in enumerate(groups)}
    rows = [
        _histogram_row(histogram.counts[group], group, left, at, plot_width, name)
        for group, at in tops.items()
    ]
    body = Markup("").join(
        [
            _band(t_review, t_defect, histogram.upper, left, plot_width, top, bottom),
            *rows,
            _axis(histogram, left, plot_width, bottom, rated=rated),
            _threshold("T1", t_review, histogram.upper, left, plot_width, bottom, "end"),
            _threshold("T2", t_defect, histogram.upper, left, plot_width, bottom, "start"),
            # Last, so that no threshold runs through a name.
            *(_row_name(histogram.counts[group], group, left, at) for group, at in tops.items()),
        ]
    )
    patterns = Markup("").join(_pattern(group, name) for group in groups)
    return Markup(
        '<svg class="chart histogram {name}" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="{name}-title {name}-text"><title id="{name}-title">Strangeness by label</title>'
        '<desc id="{name}-text">{text}</desc><defs>{patterns}</defs>{body}</svg>'
    ).format(
        name=name,
        width=width,
        height=bottom + 46,
        text=describe_histogram(histogram, t_review, t_defect),
        patterns=patterns,
        body=body,
    )


def describe_histogram(histogram: Histogram, t_review: float | None, t_defect: float | None) -> str:
    """Say in words what the histogram shows, for those who cannot see it.

    Args:
        histogram: The counts.
        t_review: T1, if any.
        t_defect: T2, if any.

    Returns:
        One sentence for each group and one for the thresholds.
    """
    sentences = []
    for group in Truth:
        counts = histogram.counts[group]
        if total := int(counts.sum()):
            median = int(np.searchsorted(np.cumsum(counts), (total + 1) // 2))
            low, high = histogram.edges[median], histogram.edges[median + 1]
            sentences.append(
                f"{group.words.capitalize()}: {total:,}, the middle one between {low:.2f} and {high:.2f}."
            )
    lines = [
        f"{word} at {line:.2f}" for word, line in (("T1", t_review), ("T2", t_defect)) if line is not None
    ]
    if lines:
        sentences.append(f"{' and '.join(lines)}.")
    return " ".join(sentences) or "No picture has a strangeness."


def axis_ticks(upper: float, number: int) -> list[float]:
    """Choose round places for the ticks of an axis that begins at zero.

    Args:
        upper: End of the axis, above zero.
        number: Of steps at most.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten, up to ``upper``.

    Example:
        >>> axis_ticks(6.02, 8), axis_ticks(6.02, 4)
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 2.0, 4.0, 6.0])
    """
    power = 10.0 ** np.floor(np.log10(upper / number))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * number >= upper * (1 - 1e-9))
    return [round(float(step * place), 12) for place in range(int(upper / step * (1 + 1e-9)) + 1)]


def stacked_bar(counts: Sequence[int] | NDArray[np.int64], largest: int) -> Markup:
    """Draw one bar of a Pareto chart, split by verdict in the order of the verdict columns.

    Args:
        counts: Five counts in the order of ``VERDICTS``.
        largest: Count that fills the whole width.

    Returns:
        Inline SVG that stretches to its cell; the numbers stand beside it in the table.
    """
    segments, x = [], 0.0
    for verdict, count in zip(VERDICTS, counts, strict=True):
        if share := 100 * int(count) / max(1, largest):
            segments.append(
                Markup('<rect class="fill {}" x="{:.3f}" y="0" width="{:.3f}" height="10"/>').format(
                    verdict.value.lower(), x, share
                )
            )
            x += share
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup("").join(segments))


def heat_overlay(
    pixels: NDArray[np.uint8],
    heat_map: NDArray[np.float32] | None,
    scale: tuple[float, float],
    record: Record | None = None,
    opacity: float = OPACITY,
) -> NDArray[np.uint8]:
    """Lay a heat map over its picture, and outline the regions.

    Args:
        pixels: ``(height, width, 3)`` RGB preview.
        heat_map: ``(rows, columns)`` over the whole picture, or ``None`` for the picture alone.
        scale: Heat-map values of the first and last colour. The same for all pictures of a run:
            equal colours mean equal strangeness. Below the first there is no colour.
        record: Whose regions to outline, if any.
        opacity: Of the hottest colour, 0 to 1.

    Returns:
        RGB picture of the preview's shape, enlarged where that is very small.
    """
    canvas = _enlarge(pixels)
    if heat_map is None:
        return canvas
    height, width = canvas.shape[:2]
    heat = np.asarray(cv2.resize(heat_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    ramp = _ramp(heat, scale)
    # The root makes faint heat visible; zero stays transparent.
    weight = (opacity * np.sqrt(ramp))[..., None]
    blended = (canvas * (1 - weight) + _colours(ramp) * weight).astype(np.uint8)
    for region in record.regions if record is not None else ():
        _outline(blended, heat, region, width / max(1, record.width if record else width))
    return blended


def heat_picture(
    heat_map: NDArray[np.float32], scale: tuple[float, float], side: int = 512
) -> NDArray[np.uint8]:
    """Colour a heat map alone, each value as a square.

    Args:
        heat_map: ``(rows, columns)``.
        scale: Heat-map values of the first and last colour.
        side: Longest side of the picture in pixels.

    Returns:
        RGB picture.
    """
    rows, columns = heat_map.shape
    enlargement = max(1.0, side / max(rows, columns))
    size = (max(1, round(columns * enlargement)), max(1, round(rows * enlargement)))
    return np.asarray(
        cv2.resize(_colours(_ramp(heat_map, scale)), size, interpolation=cv2.INTER_NEAREST), np.uint8
    )


def colour_scale_picture(width: int = 256, height: int = 12) -> NDArray[np.uint8]:
    """Draw the colour scale from low (left) to high (right), RGB."""
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))
    return _colours(ramp)


def data_uri(content: bytes, kind: str = "image/jpeg") -> Markup:
    """Put a file into an address, so that a page needs no file beside it.

    Example:
        >>> str(data_uri(b"ab", "image/png"))
        'data:image/png;base64,YWI='
    """
    return Markup("data:{};base64,{}").format(kind, base64.b64encode(content).decode("ascii"))


def colour_table() -> NDArray[np.uint8]:
    """Return the ``(256, 3)`` RGB colours of a heat map, the coldest first."""
    return _colours(np.linspace(0, 1, 256, dtype=np.float32)[None]).reshape(256, 3)


def ruler_svg(strangeness: float, t_review: float, t_defect: float) -> Markup:
    """Draw one strangeness against both thresholds.

    The ruler ends at five times T2 at most: what is stranger stands at its end, with an arrow.

    Args:
        strangeness: Of the picture, 0 or more.
        t_review: T1.
        t_defect: T2.

    Returns:
        Inline SVG with title and description, in the colour of the text around it.
    """
    left, right, line, end = 8.0, 312.0, 34.0, 4.5
    upper = max(2.5 * t_defect, min(1.15 * strangeness, 5 * t_defect), 1e-6)

    def at(value: float) -> float:
        return left + (right - left) * min(1.0, value / upper)

    here = at(strangeness)
    beyond = strangeness > upper
    # The word stands where it is not cut off.
    anchor = "start" if here < 60 else "end" if here > 260 else "middle"
    marker = (
        Markup('<path d="M{:.1f},{} l-9,-6 v12 Z" fill="currentColor"/>').format(right + 6, line)
        if beyond
        else Markup('<path d="M{:.1f},{} l6,9 h-12 Z" fill="currentColor"/>').format(here, line + 1)
    )
    thresholds = Markup("").join(
        Markup(
            '<path d="M{x:.1f},{top} V{bottom}" stroke="currentColor" stroke-width="2"{dash}/>'
            '<text x="{at:.1f}" y="14" text-anchor="{anchor}">{word} {value:.2f}</text>'
        ).format(
            x=at(value),
            top=line - 14,
            bottom=line + 6,
            dash=Markup(' stroke-dasharray="4 3"') if word == "T1" else "",
            at=at(value) + (3 if word == "T1" else -3),
            anchor="end" if word == "T1" else "start",
            word=word,
            value=value,
        )
        for word, value in (("T1", t_review), ("T2", t_defect))
    )
    said = f"Strangeness {strangeness:.2f}, T1 at {t_review:.2f}, T2 at {t_defect:.2f}."
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 324 62" width="324" height="62" role="img" '
        'aria-label="{said}" fill="currentColor" font-size="12">'
        "<title>{said}</title>"
        '<path d="M{left},{line} H{right}" stroke="currentColor" stroke-opacity="0.55"/>'
        '<rect x="{from_:.1f}" y="{top}" width="{wide:.1f}" height="{high}" fill="#d99a1c" '
        'fill-opacity="0.45"/>{thresholds}{marker}'
        '<text x="{here:.1f}" y="{below}" text-anchor="{anchor}" font-weight="600">{value:.2f}</text></svg>'
    ).format(
        said=said,
        left=left,
        right=right,
        line=line,
        from_=at(t_review),
        top=line - end,
        wide=max(0.0, at(t_defect) - at(t_review)),
        high=2 * end,
        thresholds=thresholds,
        marker=marker,
        here=here,
        below=line + 24,
        anchor=anchor,
        value=strangeness,
    )


def _histogram_row(
    counts: NDArray[np.int64], group: Truth, left: float, top: float, width: float, name: str
) -> Markup:
    largest, height, strip = int(counts.max()), 64, 22
    base, step = top + strip + height, width / len(counts)
    bars = Markup("").join(
        Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" {}/>').format(
            left + place * step + 0.5,
            base - max(2.0, height * count / largest),
            max(1.0, step - 1),
            max(2.0, height * count / largest),
            _paint(group, name),
        )
        for place, count in enumerate(counts.tolist())
        if count
    )
    return Markup(
        '<g><text class="quiet" x="{x}" y="{y}" text-anchor="end">{largest:,}</text>'
        '<path class="grid" d="M{left},{line} h{width}"/><path class="axis" d="M{left},{base} h{width}"/>'
        "{bars}</g>"
    ).format(
        x=left - 6,
        y=top + strip + 4,
        largest=largest,
        left=left,
        line=top + strip,
        width=width,
        base=base,
        bars=bars,
    )


def _row_name(counts: NDArray[np.int64], group: Truth, left: float, top: float) -> Markup:
    return Markup('<text class="row" x="{}" y="{}">{} <tspan class="quiet">{:,}</tspan></text>').format(
        left, top + 14, group.words, int(counts.sum())
    )


def _paint(group: Truth, name: str) -> Markup:
    if group not in _HATCHES:
        return Markup('class="outline {}"').format(_FILLS[group])
    return Markup('style="fill:url(#{}-{})" class="outline {}"').format(
        name, group.name.lower(), _FILLS[group]
    )


def _pattern(group: Truth, name: str) -> Markup:
    if group not in _HATCHES:
        return Markup("")
    return Markup(
        '<pattern id="{name}-{group}" class="hatch {fill}" patternUnits="userSpaceOnUse" '
        'width="6" height="6">'
        '<rect width="6" height="6" class="wash"/>{hatch}</pattern>'
    ).format(name=name, group=group.name.lower(), fill=_FILLS[group], hatch=Markup(_HATCHES[group]))


def _band(
    t_review: float | None,
    t_defect: float | None,
    upper: float,
    left: float,
    width: float,
    top: float,
    bottom: float,
) -> Markup:
    if t_review is None or t_defect is None:
        return Markup("")
    start, end = (left + width * min(1.0, line / upper) for line in (t_review, t_defect))
    return Markup('<rect class="band" x="{:.2f}" y="{}" width="{:.2f}" height="{}"/>').format(
        start, top - 6, max(0.0, end - start), bottom - top
    )


def _threshold(
    word: str, line: float | None, upper: float, left: float, width: float, bottom: float, anchor: str
) -> Markup:
    """Draw a threshold; T1's words stand left of its line, T2's right, so that they never meet."""
    if line is None or line > upper:
        return Markup("")
    x = left + width * line / upper
    return Markup(
        '<path class="threshold" d="M{x:.2f},24 V{bottom}"/>'
        '<text class="threshold-word" x="{at:.2f}" y="20" text-anchor="{anchor}">{word} {line:.2f}</text>'
    ).format(
        x=x, bottom=bottom - 6, at=x + (2 if anchor == "end" else -2), anchor=anchor, word=word, line=line
    )


def _axis(histogram: Histogram, left: float, width: float, bottom: float, *, rated: bool) -> Markup:
    ticks = axis_ticks(histogram.upper, 8 if width > 500 else 5)
    # A tick that would touch the end's own words is left out.
    ticks = [tick for tick in ticks if tick <= histogram.upper * (1 - (0.1 if width > 500 else 0.3))]
    marks = Markup("").join(
        Markup('<text class="tick" x="{:.2f}" y="{}" text-anchor="middle">{:g}</text>').format(
            left + width * tick / histogram.upper, bottom + 10, tick
        )
        for tick in ticks
    )
    words = (
        "strangeness: 2 is as strange as one good part in 100, 3 as one in 1,000"
        if width > 500 and rated
        else "strangeness"
    )
    end = f"{histogram.upper:.3g} and more" if histogram.above else f"{histogram.upper:.3g}"
    return Markup(
        '{marks}<text class="tick" x="{right}" y="{y}" text-anchor="end">{end}</text>'
        '<text class="quiet" x="{left}" y="{below}">{words}</text>'
    ).format(
        marks=marks, right=left + width, y=bottom + 10, end=end, left=left, below=bottom + 32, words=words
    )


def _ramp(heat: NDArray[np.float32], scale: tuple[float, float]) -> NDArray[np.float32]:
    low, high = scale
    ramp = np.clip((heat - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(ramp, dtype=np.float32)


def _colours(ramp: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = (DARKEST_COLOUR + ramp * (255 - DARKEST_COLOUR)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, COLOUR_MAP)[..., ::-1], dtype=np.uint8)


def _enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = -(-SMALLEST_SIDE // max(pixels.shape[:2]))
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def region_mask(heat: NDArray[np.float32], region: Region, scale: float) -> NDArray[np.bool_]:
    """Mark the hottest ``region.area`` pixels in a region's box: what the region is, without its threshold.

    Args:
        heat: ``(height, width)`` heat map over the picture, at the size that is wanted.
        region: In pixels of the original picture.
        scale: Size that is wanted over the original's.

    Returns:
        ``(height, width)``.
    """
    height, width = heat.shape
    left, top = int(np.clip(region.x * scale, 0, width - 1)), int(np.clip(region.y * scale, 0, height - 1))
    right = int(np.clip(np.ceil((region.x + region.width) * scale), left + 1, width))
    bottom = int(np.clip(np.ceil((region.y + region.height) * scale), top + 1, height))
    inside = heat[top:bottom, left:right]
    kept = int(np.clip(region.area * scale**2, 1, inside.size))
    level = np.partition(inside.ravel(), inside.size - kept)[inside.size - kept]
    mask = np.zeros((height, width), np.bool_)
    mask[top:bottom, left:right] = inside >= level
    return mask


def _outline(canvas: NDArray[np.uint8], heat: NDArray[np.float32], region: Region, scale: float) -> None:
    """Draw round a region, white on black."""
    mask = region_mask(heat, region, scale).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, (255, 255, 255), 1, cv2.LINE_AA)
