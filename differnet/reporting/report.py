"""One HTML file that says what was inspected, what was found, and what may be concluded.

The file holds its pictures, charts and styles, no script, and fetches nothing; its own content
security policy forbids both.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from differnet.calibration.discovery import good_among_flagged
from differnet.evaluation.intervals import Rate, largest_rate, percent
from differnet.records import Record, Verdict
from differnet.reporting.artefacts import encode_jpeg, make_folder, write_atomically
from differnet.reporting.counts import (
    VERDICTS,
    Columns,
    Discoveries,
    Histogram,
    Truth,
    VerdictCounts,
    columns_of,
    contradicted,
    discoveries,
    histogram,
    judgements_table,
    kinds_table,
    recorded_counts,
    starting_thresholds,
)
from differnet.reporting.figures import (
    colour_scale_picture,
    data_uri,
    heat_overlay,
    histogram_svg,
    stacked_bar,
    verdict_glyph,
)
from differnet.reporting.lots import lots_of, types_of, worst
from differnet.reporting.pdf import pdf_of, require_weasyprint
from differnet.reporting.run import CalibrationFacts, Run, RunFacts
from differnet.reporting.tables import legible, unbroken
from differnet.strict_json import to_json

if TYPE_CHECKING:
    from differnet.store import ReviewEntry

FLAGGED_SHOWN = 48
"""Parts in the gallery unless told otherwise: about 4 MB, and more than anyone reads through."""

EXAMPLES_SHOWN = 6
"""Passed parts that are shown: one row."""

WRONG_INPUTS_SHOWN = 12
QUARANTINED_SHOWN = 100

GROUPS_SHOWN = 24
"""Lots and types that are shown, those of the lowest yield: half a page."""

KINDS_SHOWN = 20
"""Kinds of defect that are shown; the rest are rarer, and stand together in one row."""

CONTRADICTIONS_SHOWN = 20

ENOUGH_DEFECTS = 30
"""Labelled defects below which an escape rate is a guess: even without one escape the bound is 10 %."""

PICTURE_SIDE = 360
"""Longest side of a picture in the report; cards show it at about 250 CSS pixels."""

MEANINGS = {
    Verdict.PASS: "as probable as good parts",
    Verdict.REVIEW: "between the two thresholds, a person looks",
    Verdict.DEFECT: "the right part, but improbable",
    Verdict.OOD: "not the kind of picture the model knows",
    Verdict.INVALID: "could not be read or judged",
}


@dataclass(frozen=True)
class Card:
    """One picture as the report shows it.

    Attributes:
        record: The row.
        picture, overlay, closeup: Data URIs; ``None`` where there is no such picture.
        p_values: Name and value of each p-value that was computed.
    """

    record: Record
    picture: Markup | None
    overlay: Markup | None
    closeup: Markup | None
    p_values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Promise:
    """What one threshold promises.

    Attributes:
        name: ``T1`` or ``T2``.
        threshold: On strangeness.
        action: What happens beyond it.
        share: Of good parts that it may flag, in words.
        interval: What this one calibration set gives, in words.
        kept: False when the calibration has too few parts for the promise.
    """

    name: str
    threshold: float
    action: str
    share: str
    interval: str
    kept: bool


def write_report(run: Run, out: Path, flagged_shown: int = FLAGGED_SHOWN) -> Path:
    """Write a run's report as one HTML file.

    Args:
        run: The run.
        out: The file, or a folder in which it becomes ``report.html``.
        flagged_shown: Flagged parts in the gallery; the report says how many are not shown.

    Returns:
        The file.

    Raises:
        RunError: The disk refused.
    """
    (path,) = write_reports(run, out, ("html",), flagged_shown)
    return path


def write_reports(
    run: Run, out: Path, formats: Sequence[str], flagged_shown: int = FLAGGED_SHOWN
) -> list[Path]:
    """Write a run's report, made once, in each of the formats.

    Args:
        run: The run.
        out: A folder for ``report.html`` and ``report.pdf``, or the file where one format is asked for.
        formats: Of ``html``, ``pdf``.
        flagged_shown: Flagged parts in the gallery; the report says how many are not shown.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        PdfError: PDF cannot be made here; nothing is written then.
        RunError: The disk refused.
    """
    if "pdf" in formats:
        require_weasyprint()
    page = render_report(run, flagged_shown)
    written = []
    for name in formats:
        path = out / f"report.{name}" if out.is_dir() or not out.suffix else out
        make_folder(path.parent)
        write_atomically(path, pdf_of(page) if name == "pdf" else page.encode("utf-8"))
        written.append(path)
    return written


def render_report(run: Run, flagged_shown: int = FLAGGED_SHOWN) -> str:
    """Make the report's HTML.

    Args:
        run: The run.
        flagged_shown: Flagged parts in the gallery.

    Returns:
        The whole page.
    """
    records, facts = run.records, run.facts
    counts, columns = recorded_counts(records), columns_of(records)
    lots, types = lots_of(records), types_of(records)
    by_verdict = _by_verdict(records)
    flagged = _strangest([*by_verdict[Verdict.DEFECT], *by_verdict[Verdict.REVIEW]])
    ood = _strangest(by_verdict[Verdict.OOD])
    invalid = by_verdict[Verdict.INVALID]
    show = partial(_card, run)
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            total=len(records),
            headline=headline(counts),
            tiles=_tiles(counts, len(records)),
            measures=_measures(counts),
            promises=promises(facts),
            calibration=facts.calibration,
            charts=_charts(histogram(columns, *_thresholds(facts)), facts),
            without_strangeness=int(np.count_nonzero(~np.isfinite(columns.strangeness))),
            cross=_cross(counts),
            kinds=_kinds(records, run.reviews),
            kinds_reviewed=bool(run.reviews),
            judgements=_judgements(run),
            contradictions=contradicted(run.reviews)[:CONTRADICTIONS_SHOWN],
            contradictions_total=len(contradicted(run.reviews)),
            lots=lots,
            lots_shown=worst(lots.groups, GROUPS_SHOWN),
            types=types,
            types_shown=worst(types, GROUPS_SHOWN),
            thresholds_told=threshold_sentences(facts, records),
            flagged=[show(record) for record in flagged[: max(0, flagged_shown)]],
            flagged_total=len(flagged),
            examples=[show(record) for record in _spread(by_verdict[Verdict.PASS], EXAMPLES_SHOWN)],
            wrong=[show(record) for record in ood[:WRONG_INPUTS_SHOWN]],
            wrong_total=len(ood),
            quarantined=invalid[:QUARANTINED_SHOWN],
            quarantined_total=len(invalid),
            false_alarms=false_alarm_sentences(counts, columns, facts),
            limits=limit_sentences(counts, facts.calibration),
            run_facts=_run_facts(facts, records),
            aspect=_aspect(records),
            heat_scale=run.heat_scale,
            colour_scale=data_uri(encode_jpeg(colour_scale_picture())),
            verdicts=VERDICTS,
            meanings=MEANINGS,
        )
    )


def headline(counts: VerdictCounts) -> str:
    """Say the outcome of a run in one sentence.

    Args:
        counts: Of the run.

    Returns:
        The sentence; verdicts that nothing got are left out.
    """
    passed, review, defect, ood, invalid = (counts.of_verdict(verdict) for verdict in VERDICTS)
    total = passed + review + defect + ood + invalid
    if total == 0:
        return "Nothing has been inspected yet."
    clauses = [
        _clause(passed, "passes", "pass"),
        _clause(defect, "is a defect", "are defects"),
        _clause(review, "needs to be looked at", "need to be looked at"),
        _clause(ood, "is not the product as the model knows it", "are not the product as the model knows it"),
        _clause(invalid, "could not be judged", "could not be judged"),
    ]
    said = [clause for clause in clauses if clause]
    joined = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"Of {total:,} {'picture' if total == 1 else 'pictures'}, {joined}."


def promises(facts: RunFacts) -> list[Promise]:
    """State what each threshold promises, and whether the calibration can carry it.

    Args:
        facts: Of the run.

    Returns:
        One promise a threshold; none for a run without thresholds.
    """
    calibration = facts.calibration
    wanted = [
        ("T1", facts.t_review, "goes to review", "alpha_review", "interval_review"),
        ("T2", facts.t_defect, "is called a defect", "alpha_defect", "interval_defect"),
    ]
    return [
        _promise(
            name,
            threshold,
            action,
            getattr(calibration, alpha) if calibration else None,
            getattr(calibration, interval) if calibration else None,
            calibration.smallest_alpha if calibration else 1.0,
        )
        if calibration is None or calibration.promised
        else Promise(name, threshold, action, no_promise(calibration.parts), "0 % to 100 %", kept=False)
        for name, threshold, action, alpha, interval in wanted
        if threshold is not None
    ]


def no_promise(parts: int) -> str:
    """Say what so few parts can promise: nothing.

    Example:
        >>> no_promise(1)
        'no error rate can be promised from 1 part; thresholds are provisional'
    """
    return f"no error rate can be promised from {_parts(parts)}; thresholds are provisional"


def _parts(number: int) -> str:
    return f"{number:,} {'part' if number == 1 else 'parts'}"


def threshold_sentences(facts: RunFacts, records: Sequence[Record]) -> list[str]:
    """Say which thresholds judged, who set them and why.

    Args:
        facts: Of the run.
        records: Of the run, each with the thresholds that judged it.

    Returns:
        Sentences; none for a run without thresholds.

    Example:
        >>> threshold_sentences(RunFacts(t_review=1.3, t_defect=2.0), [])
        ["The thresholds are the calibration's own (revision 0)."]
    """
    if facts.t_review is None or facts.t_defect is None:
        return []
    told = facts.thresholds_set
    if told is not None:
        how = f" How: {told.rule}." if told.rule else ""
        said = f"Revision {told.number} of the thresholds was set by {told.author}"
        sentences = [f"{said}{f' at {_moment(told.time)}' if told.time else ''}: “{told.reason}”.{how}"]
    elif facts.threshold_revision:
        sentences = [
            f"Revision {facts.threshold_revision} of the thresholds judged. This run does not say who set it "
            "and why: differnet threshold history MODEL does."
        ]
    else:
        sentences = ["The thresholds are the calibration's own (revision 0)."]
    ours = (facts.threshold_revision, facts.t_review, facts.t_defect)
    others = Counter(
        (record.threshold_revision, record.t_review, record.t_defect)
        for record in records
        if record.t_review is not None and record.t_defect is not None
    )
    del others[ours]
    if others:
        (revision, t_review, t_defect), count = others.most_common(1)[0]
        sentences.append(
            f"{_pictures(others.total())} of this run {'was' if others.total() == 1 else 'were'} judged by "
            f"other thresholds, {count:,} by T1 {t_review:.3f} and T2 {t_defect:.3f} of revision {revision}. "
            "The lines in the chart are those that the run began with; every record carries its own."
        )
    return sentences


def _moment(time: str) -> str:
    return re.sub(r"\.\d+", "", time).replace("T", " ").replace("+00:00", " UTC")


def _pictures(number: int) -> str:
    return f"{number:,} {'picture' if number == 1 else 'pictures'}"


def false_alarm_sentences(counts: VerdictCounts, columns: Columns, facts: RunFacts) -> list[str]:
    """Say how many of the flagged parts may be good.

    Args:
        counts: Of the run.
        columns: Of the run.
        facts: Of the run.

    Returns:
        Sentences; one that says why nothing can be said when there are no p-values.
    """
    if facts.calibration is not None and not facts.calibration.promised:
        return [
            f"N{no_promise(facts.calibration.parts)[1:]}, and so is how many of the flagged parts are good."
        ]
    found = discoveries(columns.p_value[columns.fixed < 0])
    if found.tested == 0:
        return ["No p-values were computed, so nothing can be said of how many flagged parts are good."]
    sentences = []
    if facts.calibration is not None:
        alpha = facts.calibration.alpha_defect
        sentences = [
            f"Were all {found.tested:,} judged parts good, about {alpha * found.tested:.1f} of them would "
            f"still lie beyond T2; {counts.of_verdict(Verdict.DEFECT):,} do.",
            *_flagged_sentences(columns.p_value[columns.fixed < 0], facts.calibration),
        ]
    return [*sentences, _discovery_sentence(found, facts.calibration)]


def _flagged_sentences(p_values: NDArray[np.float64], calibration: CalibrationFacts) -> list[str]:
    sentences = []
    for name, alpha in (("T1", calibration.alpha_review), ("T2", calibration.alpha_defect)):
        if not calibration.smallest_alpha <= alpha < 1:
            continue
        found = good_among_flagged(p_values, alpha, calibration.parts)
        if found.flagged:
            sentences.append(
                f"Of the {_parts(found.flagged)} with a p-value of {percent(alpha)} or below, the line of "
                f"{name}, about {found.expected:.1f} {'is' if found.flagged == 1 else 'are'} expected to be "
                f"good, and with 95 % confidence no more than {found.at_most:,}."
            )
    return sentences


def limit_sentences(counts: VerdictCounts, calibration: CalibrationFacts | None) -> list[str]:
    """Say what the run shows about escapes and overkill, and what it does not.

    Args:
        counts: Of the run.
        calibration: What the thresholds rest on, if known.

    Returns:
        Sentences for a reader without statistics.
    """
    sentences = [_escape_sentence(counts.escape), _overkill_sentence(counts.overkill)]
    if 0 < counts.escape.of < ENOUGH_DEFECTS:
        sentences.append(
            f"{counts.escape.of} labelled defects are few: below {ENOUGH_DEFECTS} the escape rate is a rough "
            "guess."
        )
    if calibration is not None and not calibration.promised:
        sentences.append(
            f"N{no_promise(calibration.parts)[1:]}. They come from variations of "
            f"{'that part' if calibration.parts == 1 else 'those parts'}, made by this program; how parts "
            "differ from each other takes more parts to tell: twenty are a fair start."
        )
    elif calibration is not None:
        sentences.append(
            f"The thresholds rest on {calibration.parts:,} good parts. They hold on average for parts that "
            "come from the same product, camera, light and process as those; after a change of any of these, "
            "calibrate again."
        )
    sentences.append(
        "A verdict is evidence about a picture. What the picture does not show is not inspected."
    )
    return sentences


def _escape_sentence(escape: Rate) -> str:
    if escape.of == 0:
        return (
            "No labelled defect was inspected, so nothing is claimed about escapes. To claim fewer than 1 % "
            "takes 299 defects without an escape; fewer than 0.1 % takes 2,995."
        )
    bound = percent(largest_rate(escape.events, escape.of))
    return (
        f"Of {escape.of:,} labelled {'defect' if escape.of == 1 else 'defects'}, {escape.events:,} passed. "
        f"With 95 % confidence fewer than {bound} of defects like these escape; of other kinds of "
        "defect this says nothing."
    )


def _overkill_sentence(overkill: Rate) -> str:
    if overkill.of == 0:
        return "No part labelled good was inspected, so overkill was not measured here."
    bound = percent(largest_rate(overkill.events, overkill.of))
    return (
        f"Of {overkill.of:,} {'part' if overkill.of == 1 else 'parts'} labelled good, {overkill.events:,} "
        f"{'was' if overkill.events == 1 else 'were'} rejected. With 95 % confidence overkill is below "
        f"{bound}."
    )


def _discovery_sentence(found: Discoveries, calibration: CalibrationFacts | None) -> str:
    if found.selected == 0:
        floor = f" (no p-value can be below {calibration.smallest_alpha:.2g})" if calibration else ""
        return (
            "No part is strange enough to be selected at a false discovery rate of "
            f"{percent(found.rate)} among {found.tested:,}{floor}: the calibration may be too small for a "
            "lot of this size, or the lot may be good."
        )
    return (
        f"At a false discovery rate of {percent(found.rate)}, {found.selected:,} parts are selected "
        f"(Benjamini and Hochberg), of which at most {found.expected_good:.1f} are expected to be good."
    )


def _clause(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}" if count else ""


def _promise(
    name: str,
    threshold: float,
    action: str,
    alpha: float | None,
    interval: tuple[float, float] | None,
    smallest_alpha: float,
) -> Promise:
    if alpha is None:
        return Promise(name, threshold, action, "nothing promised", "no calibration on record", kept=False)
    kept = alpha >= smallest_alpha
    return Promise(
        name=name,
        threshold=threshold,
        action=action,
        share=f"at most {percent(alpha)} of good parts" if kept else f"{percent(alpha)} cannot be promised",
        interval=f"{percent(interval[0])} to {percent(interval[1])}" if interval else "not computed",
        kept=kept,
    )


def _by_verdict(records: Iterable[Record]) -> dict[Verdict, list[Record]]:
    groups: dict[Verdict, list[Record]] = {verdict: [] for verdict in Verdict}
    for record in records:
        groups[record.verdict].append(record)
    return groups


def _strangest(records: Sequence[Record]) -> list[Record]:
    return sorted(
        records, key=lambda record: -(record.strangeness if record.strangeness is not None else -1.0)
    )


def _spread(records: Sequence[Record], number: int) -> list[Record]:
    """Choose examples evenly from the least to the most strange, the same ones each time."""
    ordered = _strangest(records)[::-1]
    if len(ordered) <= number:
        return ordered
    return [ordered[int(place)] for place in np.linspace(0, len(ordered) - 1, number).round()]


def _thresholds(facts: RunFacts) -> tuple[float, float]:
    return starting_thresholds(facts.t_review, facts.t_defect)


def _tiles(counts: VerdictCounts, total: int) -> list[tuple[Verdict, int, str]]:
    return [
        (verdict, counts.of_verdict(verdict), percent(counts.of_verdict(verdict) / total) if total else "")
        for verdict in VERDICTS
    ]


def _measures(counts: VerdictCounts) -> list[tuple[str, Rate, str]]:
    return [
        ("First-pass yield", counts.passed, "pictures that pass at once"),
        ("Review load", counts.review_load, "judged pictures that a person must look at"),
        ("Overkill", counts.overkill, "good parts rejected"),
        ("Escape", counts.escape, "labelled defects that pass"),
    ]


def _charts(counted: Histogram, facts: RunFacts) -> list[Markup]:
    rated = facts.calibration is None or facts.calibration.promised
    return [
        histogram_svg(counted, facts.t_review, facts.t_defect, width, name, rated=rated)
        for width, name in ((960, "wide"), (380, "narrow"))
    ]


def _cross(counts: VerdictCounts) -> list[tuple[str, list[int], int]]:
    rows = [(group.words, counts.table[group].tolist()) for group in Truth if counts.table[group].any()]
    rows.append(("all", counts.table.sum(axis=0).tolist()))
    return [(words, row, sum(row)) for words, row in rows]


def _kinds(
    records: Sequence[Record], reviews: Sequence[tuple[Record, ReviewEntry]]
) -> list[tuple[str, Markup, list[int], int, str]]:
    table = kinds_table(records, reviews)
    if len(table) > KINDS_SHOWN:
        names = list(table)
        rest = names[KINDS_SHOWN - 1 :]
        others = np.sum([table[name] for name in rest], axis=0)
        table = {name: table[name] for name in names[: KINDS_SHOWN - 1]}
        table[f"{len(rest):,} rarer kinds together"] = others
    sums = [int(row.sum()) for row in table.values()]
    shares = np.cumsum(sums) / max(1, sum(sums))
    return [
        (legible(kind), stacked_bar(row, max(sums)), row.tolist(), total, percent(float(share)))
        for (kind, row), total, share in zip(table.items(), sums, shares, strict=True)
    ]


def _judgements(run: Run) -> list[tuple[str, list[int], int]]:
    return [(name, row.tolist(), int(row.sum())) for name, row in judgements_table(run.reviews).items()]


def _card(run: Run, record: Record) -> Card:
    preview, closeup = run.preview(record), run.closeup(record)
    overlay = None
    if preview is not None and (heat_map := run.heat_map(record)) is not None:
        overlay = heat_overlay(preview, heat_map, run.heat_scale, record)
    named = [
        ("verdict", record.p_value),
        ("global", record.p_value_global),
        ("local", record.p_value_local),
        ("wrong input", record.p_value_ood),
    ]
    return Card(
        record=record,
        picture=_embed(preview),
        overlay=_embed(overlay),
        closeup=_embed(closeup),
        p_values=tuple((name, f"{value:.2g}") for name, value in named if value is not None),
    )


def _aspect(records: Sequence[Record]) -> str:
    """Choose one width over height for all picture frames, so that cards align and little is left empty."""
    shapes = [record.width / record.height for record in records if record.width and record.height]
    return f"{float(np.clip(np.median(shapes), 0.6, 2.4)) if shapes else 1.0:.3f}"


def _embed(pixels: NDArray[np.uint8] | None) -> Markup | None:
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = (
        np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8) if scale < 1 else pixels
    )
    return data_uri(encode_jpeg(small))


def _run_facts(facts: RunFacts, records: Sequence[Record]) -> list[tuple[str, str]]:
    times = [record.inference_ms for record in records if record.inference_ms > 0]
    rows = [
        ("Run", facts.run_id),
        ("Pictures from", facts.source),
        ("Started", facts.started_at),
        ("Finished", facts.finished_at or "not finished: the run was still open when this was written"),
        ("Model", facts.model_id),
        ("Calibration", facts.calibration_id),
        ("Threshold revision", _revision(facts)),
        ("Records", f"{len(records):,}, sha256 {_digest(records)} as JSON lines"),
        ("Seed", None if facts.seed is None else str(facts.seed)),
        ("Commit", facts.commit),
        ("Computed with", ", ".join(sorted({f"{r.backend}, {r.precision}, {r.device}" for r in records}))),
        ("Inference, 95th percentile", f"{np.quantile(times, 0.95):.0f} ms a picture" if times else None),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items()))),
        *sorted(facts.details.items()),
    ]
    return [(name, value) for name, value in rows if value]


def _revision(facts: RunFacts) -> str:
    told = facts.thresholds_set
    known = f", sha256 {told.sha256}" if told is not None and told.sha256 else ""
    return f"{facts.threshold_revision}{known}"


def _digest(records: Iterable[Record]) -> str:
    """Name the records by the sha256 of the file that holds them, in a run's folder or exported."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{to_json(record)}\n".encode("ascii"))
    return digest.hexdigest()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.globals["glyph"] = verdict_glyph
    environment.globals["no_promise"] = no_promise
    tests: dict[str, Callable[[float], str]] = {"share": percent}
    environment.filters.update(tests)
    return environment


def _finalize(value: object) -> object:
    """Make text legible on its way into the page, and keep a figure and its % on one line."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return unbroken(legible(value))
