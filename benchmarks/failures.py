"""What goes wrong: the defects that rank among good parts, and the good parts that rank among defects.

Tables come from what a benchmark keeps of each part. A picture is drawn of the sample product alone, which
this project renders itself: nobody else's pictures belong into its repository.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from differnet.detection.detector import Detector
from differnet.evaluation.per_part import part_names, stacked
from differnet.images.layouts import GOOD, Dataset
from differnet.images.reading import read_image, read_masks
from differnet.reporting.figures import heat_picture

Pixels = NDArray[np.uint8]

# Missed defects and false alarms that are shown of a product.
MISSED, FALSE_ALARMS = 5, 3
# A p-value up to which an evidence finds a part strange: the share of good parts that may be reviewed.
STRANGE = 0.05
# A defect is called small or large in the lowest and the highest quarter of its product's.
QUARTER = 0.25
# Hotter than this share of the picture's hottest place is as hot.
AS_HOT = 0.9
LARGEST_FILE = 200_000
_EDGE, _LABEL, _GAP = 152, 14, 4
_RED = (255, 60, 40)


@dataclass(frozen=True)
class Failure:
    """A test part on the wrong side of others.

    Attributes:
        name: Below the dataset's folder.
        label: Good, or the kind of defect.
        strangeness: Mean over seeds.
        outranked: Mean share, over seeds, of the other class that is on the wrong side of it, ties half: of
            good parts that are stranger than a defect, or of defects less strange than a good part.
        p_whole, p_local: Mean p-values over seeds of either evidence, ``None`` where none was kept.
        defect_pixels: Size of the defect, where there is a mask.
        smaller: Share of the product's other defects with a mask that are smaller.
        heat: Mean over seeds of the largest heat anywhere, and at the defect.
    """

    name: str
    label: str
    strangeness: float
    outranked: float
    p_whole: float | None
    p_local: float | None
    defect_pixels: int | None
    smaller: float | None
    heat: tuple[float, float] | None


def worst(
    runs: Sequence[Mapping[str, Any]], missed: int = MISSED, false_alarms: int = FALSE_ALARMS
) -> list[Failure]:
    """Find what ranks worst over all runs.

    Args:
        runs: ``by_seed`` of a benchmark, each with ``scores``.
        missed: Most defects.
        false_alarms: Most good parts.

    Returns:
        Defects, then good parts, the worst first; only such as are on the wrong side of any part.

    Raises:
        MetricError: The runs keep no figures by part, or those of different parts.
    """
    figures, defective, names = stacked(runs)
    kept = [run["scores"] for run in runs]
    sizes = np.array([one["defect_pixels"] for one in kept[0].values() if "defect_pixels" in one])
    found: list[Failure] = []
    # Of a good part the order is turned round.
    for kind, sign, most in ((True, 1, missed), (False, -1, false_alarms)):
        some: list[tuple[float, float, Failure]] = []
        for index in np.flatnonzero(defective == kind):
            own, others = sign * figures[:, index, None], sign * figures[:, defective != kind]
            outranked = float(((others > own) + 0.5 * (others == own)).mean())
            if outranked > 0:
                failure = _failure(names[index], [run[names[index]] for run in kept], outranked, sizes)
                some.append((-outranked, sign * failure.strangeness, failure))
        some.sort(key=itemgetter(0, 1))
        found += [failure for _, _, failure in some[:most]]
    return found


def _failure(
    name: str, runs: Sequence[Mapping[str, Any]], outranked: float, sizes: NDArray[np.int64]
) -> Failure:
    def mean(figure: str) -> float | None:
        values = [run.get(figure) for run in runs]
        return None if any(v is None for v in values) else fmean(v for v in values if v is not None)

    pixels = runs[0].get("defect_pixels")
    heat, there = mean("heat"), mean("heat_at_defect")
    total = mean("total")
    return Failure(
        name=name,
        label=str(runs[0]["label"]),
        strangeness=float("inf") if total is None else total,
        outranked=outranked,
        p_whole=mean("p_whole"),
        p_local=mean("p_local"),
        defect_pixels=pixels,
        smaller=None if pixels is None else float((sizes < pixels).mean()),
        heat=None if heat is None or there is None else (heat, there),
    )


def guess(failure: Failure) -> str:
    """Say in words what is known of why a part ranks wrong.

    Example:
        >>> guess(Failure("a.png", "dent", 0.4, 0.3, 0.5, 0.02, 61, 0.1, (4.0, 3.9)))
        'small: 61 pixels, 10 % of defects are smaller; patches alone find it strange; hottest at the defect'
    """
    facts: list[str] = []
    if failure.defect_pixels is not None and failure.smaller is not None:
        share = f"{failure.defect_pixels:,} pixels, {100 * failure.smaller:.0f} % of defects are smaller"
        size = "small: " if failure.smaller < QUARTER else "large: " if failure.smaller > 1 - QUARTER else ""
        facts.append(size + share)
    if failure.p_whole is not None and failure.p_local is not None:
        whole, local = failure.p_whole <= STRANGE, failure.p_local <= STRANGE
        said = {
            (True, True): "the whole and patches both find it strange",
            (True, False): "the whole alone finds it strange",
            (False, True): "patches alone find it strange",
            (False, False): "neither the whole nor patches find it strange",
        }
        facts.append(said[whole, local])
    if failure.heat is not None:
        heat, there = failure.heat
        hottest = there >= AS_HOT * heat
        facts.append(
            "hottest at the defect" if hottest else f"hotter elsewhere ({heat:.1f}) than there ({there:.1f})"
        )
    return "; ".join(facts)


def table(failures: Mapping[str, Sequence[Failure]]) -> list[str]:
    """Write failures as a Markdown table, a row a part, numbered within each product.

    Args:
        failures: Product to what `worst` found.

    Returns:
        Lines, without headings.
    """
    lines = [
        "| product | no. | part | kind | outranked by | strangeness | p: whole | patches | what is known |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for product, some in failures.items():
        for number, failure in enumerate(some, start=1):
            others = "defects" if failure.label == GOOD else "good parts"
            cells = [product, str(number), failure.name, failure.label]
            cells += [f"{100 * failure.outranked:.1f} % of {others}", f"{failure.strangeness:.2f}"]
            cells += ["" if p is None else f"{p:.3f}" for p in (failure.p_whole, failure.p_local)]
            lines.append("| " + " | ".join([*cells, guess(failure)]) + " |")
    return lines


def picture(failures: Sequence[Failure], dataset: Dataset, detector: Detector) -> bytes:
    """Draw each failure: the picture, its heat map, and the true region.

    One scale of colours serves all heat maps: from the mean of good patches to the hottest place shown.

    Args:
        failures: Of this dataset, at least one.
        dataset: Whose parts they are.
        detector: That judges them.

    Returns:
        A PNG file of at most 200 kB, or as small as 16 colours make it.
    """
    parts = dict(zip(part_names(dataset.parts, dataset.root), dataset.parts, strict=True))
    chosen = [parts[f.name] for f in failures]
    inspections = list(detector.inspect_many([p.path for p in chosen]))
    maps = [np.zeros((1, 1), np.float32) if i.heat_map is None else i.heat_map for i in inspections]
    scale = (0.0, max(float(heat.max()) for heat in maps))
    cells: list[Pixels] = []
    for number, (failure, part, heat) in enumerate(zip(failures, chosen, maps, strict=True), start=1):
        pixels = np.asarray(read_image(part.path).pixels, dtype=np.uint8)
        mask = read_masks(part.mask_paths, pixels.shape[:2])
        cells.append(_row(f"{number}  {failure.label}", pixels, heat_picture(heat, scale), mask))
    # Two beside each other: eight under one another would be a narrow tower.
    cells += [np.full_like(cells[0], 255)] * (len(cells) % 2)
    sheet = np.vstack([np.hstack(cells[i : i + 2]) for i in range(0, len(cells), 2)])
    return _small_png(sheet)


def _row(words: str, pixels: Pixels, heat: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """Lay three tiles beside each other below some words."""
    strip = np.full((_EDGE + _LABEL + _GAP, 3 * (_EDGE + _GAP) + _GAP, 3), 255, np.uint8)
    for index, tile in enumerate((pixels, heat, pixels)):
        small = np.asarray(cv2.resize(tile, (_EDGE, _EDGE), interpolation=cv2.INTER_AREA), np.uint8)
        if index == 2:
            small[_line_around(mask)] = _RED
        left = index * (_EDGE + _GAP)
        strip[_LABEL : _LABEL + _EDGE, left : left + _EDGE] = small
    cv2.putText(strip, words, (2, _LABEL - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (20, 20, 20), 1, cv2.LINE_AA)
    return strip


def _line_around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a line runs around the true region of a tile, two pixels away from it."""
    # Whatever is smaller than a pixel of the tile is still a pixel of it.
    rows, columns = np.nonzero(mask)
    small = np.zeros((_EDGE, _EDGE), np.uint8)
    small[rows * _EDGE // mask.shape[0], columns * _EDGE // mask.shape[1]] = 1
    inner, outer = (cv2.dilate(small, np.ones((side, side), np.uint8)) for side in (5, 7))
    return np.asarray((outer > 0) & (inner == 0))


def _small_png(sheet: Pixels) -> bytes:
    red = (sheet == np.array(_RED)).all(-1)
    written = b""
    for colours in (128, 64, 32, 16):
        # The most common colours would leave few to the hottest places, which are rare.
        reduced = Image.fromarray(sheet).quantize(
            colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        palette = [*(reduced.getpalette() or [])[: 3 * colours], *_RED]
        places = np.where(red, len(palette) // 3 - 1, np.asarray(reduced)).astype(np.uint8)
        drawn = Image.fromarray(places, "P")
        drawn.putpalette(palette)
        stream = io.BytesIO()
        drawn.save(stream, "PNG", optimize=True)
        written = stream.getvalue()
        if len(written) <= LARGEST_FILE:
            break
    return written


def write_picture(path: Path, failures: Sequence[Failure], dataset: Dataset, detector: Detector) -> None:
    """Replace the picture at ``path``; nothing is left there when nothing goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if failures:
        path.write_bytes(picture(failures, dataset, detector))
