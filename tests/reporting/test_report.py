"""The report is one file, runs nothing, fetches nothing, and says what is so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from differnet.calibration import good_among_flagged
from differnet.records import Inspection, Record, Verdict
from differnet.reporting.counts import columns_of, kinds_table, recorded_counts
from differnet.reporting.report import (
    false_alarm_sentences,
    headline,
    limit_sentences,
    promises,
    render_report,
    threshold_sentences,
    write_report,
)
from differnet.reporting.run import CalibrationFacts, RunFacts, ThresholdsSet
from differnet.reporting.run_folder import RunFolder
from differnet.store import ReviewEntry
from differnet.strict_json import to_json

MakeRun = Callable[..., RunFolder]
MakeRecord = Callable[..., Record]

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</style><script>x</script>",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "&lt;b&gt;",
    "' onmouseover='alert(1)",
    "\u202egnp.exe",
    b"\xff".decode("utf-8", "surrogateescape"),
]


class Page(HTMLParser):
    """Collects tags and attributes, and checks that what opens is closed."""

    VOID = ("meta", "img", "circle", "rect", "path", "br", "!doctype")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def shown(text: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Page(text).words))


def test_the_report_is_one_file_that_runs_and_fetches_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    path = write_report(
        make_run(["good"] * 5 + ["scratch"] * 3 + ["wrong_input/blank", "unreadable"]), tmp_path / "out"
    )
    assert path == tmp_path / "out" / "report.html"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    page = Page(path.read_text("utf-8"))
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert all(value.startswith("data:image/") for name, value in page.attributes if name in ("src", "href"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert "url(http" not in path.read_text("utf-8")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_names_from_outside_stay_text(make_record: MakeRecord, tmp_path: Path, payload: str) -> None:
    facts = RunFacts(product=payload, source=payload, versions={payload: payload}, details={payload: payload})
    run = RunFolder.create(tmp_path / "run", facts)
    for number, verdict in enumerate(Verdict):
        record = make_record(
            number,
            verdict,
            part_id=payload,
            path=payload,
            label=payload,
            reasons=(payload,),
            strangeness=float(number),
        )
        run.append(Inspection(record, np.ones((2, 2), np.float32)), np.zeros((9, 9, 3), np.uint8))
    run.close()
    text = render_report(run)
    text.encode("utf-8")
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in text
    if payload.isprintable():
        assert payload in " ".join(page.words)


@pytest.mark.parametrize(
    "labels", [[], ["good"], ["unreadable"], [None] * 3, ["scratch"], ["wrong_input/blank"]]
)
def test_any_run_has_a_report(make_run: MakeRun, labels: list[str | None]) -> None:
    page = Page(render_report(make_run(labels)))
    assert page.open == []
    assert "nan" not in shown(render_report(make_run(labels, "again"))).lower().split()


def test_a_bare_run_promises_nothing(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    run.append(Inspection(make_record(1, Verdict.PASS)), None)
    words = shown(render_report(run))
    assert "its thresholds promise nothing" in words
    assert "not finished" in words


def test_the_gallery_is_bounded_sorted_and_says_what_is_missing(make_run: MakeRun) -> None:
    run = make_run(["scratch"] * 12)
    flagged = [r for r in run.records if r.verdict in (Verdict.DEFECT, Verdict.REVIEW)]
    text = render_report(run, flagged_shown=4)
    assert text.count("<article>") == 4
    assert f"{len(flagged) - 4} more flagged parts are not shown" in shown(text)
    strongest = sorted(flagged, key=lambda record: record.strangeness or 0.0, reverse=True)[:4]
    names = re.findall(r'class="name">([^<]+)<', text)
    assert names == [record.part_id for record in strongest]


def test_every_verdict_is_written_as_word_and_shape(make_run: MakeRun) -> None:
    text = render_report(make_run(["good"] * 30 + ["scratch"] * 3 + ["wrong_input/blank", "unreadable"]))
    for verdict in Verdict:
        assert re.search(rf'<svg class="glyph {verdict.value.lower()}".*?</svg>{verdict.value}', text)


def test_quarantined_files_are_listed_with_reasons(make_run: MakeRun) -> None:
    words = shown(render_report(make_run(["good", "unreadable"])))
    assert "The file ends after 312 of 40,960 bytes." in words
    assert "test/part_0001.png" in words


def test_the_headline_counts_all(make_run: MakeRun) -> None:
    counts = recorded_counts(make_run(["unreadable", "wrong_input/blank"]).records)
    assert headline(counts) == (
        "Of 2 pictures, 1 is not the product as the model knows it and 1 could not be judged."
    )


def test_a_promise_that_the_calibration_cannot_carry_is_refused() -> None:
    few = CalibrationFacts(parts=50, alpha_review=0.05, alpha_defect=0.01, smallest_alpha=1 / 51)
    review, defect = promises(RunFacts(t_review=1.3, t_defect=2.0, calibration=few))
    assert review.kept
    assert not defect.kept
    assert "cannot be promised" in defect.share


def test_where_nothing_is_promised_no_rate_is_said(make_run: MakeRun) -> None:
    two = CalibrationFacts(2, 0.05, 0.02, 1 / 3, (0.0, 1.0), (0.0, 1.0), "variations", promised=False)
    run = make_run(["good"] * 8 + ["scratch"], calibration=two)
    for promise in promises(run.facts):
        assert not promise.kept
        assert promise.share == "no error rate can be promised from 2 parts; thresholds are provisional"
    words = shown(render_report(run))
    assert "No error rate can be promised from 2 parts; thresholds are provisional" in words
    for rate in ("at most", "one good part in", "false discovery rate of", "would still lie beyond T2"):
        assert rate not in words, rate


@pytest.mark.parametrize(("number", "claim"), [(299, "fewer than 1.0 %"), (2995, "fewer than 0.10 %")])
def test_what_no_escape_in_so_many_defects_supports(make_record: MakeRecord, number: int, claim: str) -> None:
    caught = [make_record(k, Verdict.DEFECT, label="dent", strangeness=5.0) for k in range(number)]
    assert claim in limit_sentences(recorded_counts(caught), None)[0]


def test_a_run_without_labels_claims_nothing_about_escapes(make_run: MakeRun) -> None:
    words = shown(render_report(make_run([None] * 4)))
    assert "nothing is claimed about escapes" in words
    assert "299 defects" in words


def test_the_report_says_who_set_the_thresholds_and_why(make_run: MakeRun, make_record: MakeRecord) -> None:
    told = ThresholdsSet(
        2, "Ada", "reviewers drowned", "2026-11-23T06:00:00.123456+00:00", "by hand", "ab" * 32
    )
    run = make_run(["good"] * 3, threshold_revision=2, thresholds_set=told)
    words = shown(render_report(run))
    assert (
        "Revision 2 of the thresholds was set by Ada at 2026-11-23 06:00:00 UTC: “reviewers drowned”."
        in words
    )
    assert "ab" * 32 in words
    # The records of this run were judged by the calibration's own.
    assert "3 pictures of this run were judged by other thresholds, 3 by T1 1.301 and T2 2.000" in words
    own = RunFacts(t_review=1.301, t_defect=2.0)
    same = [make_record(1, Verdict.PASS)]
    assert threshold_sentences(own, same) == ["The thresholds are the calibration's own (revision 0)."]
    assert "does not say who" in threshold_sentences(replace(own, threshold_revision=3), [])[0]
    assert threshold_sentences(RunFacts(), same) == []


def test_the_records_are_named_by_the_hash_of_their_file(make_run: MakeRun) -> None:
    run = make_run(["good", "scratch", "unreadable"])
    digest = hashlib.sha256((run.path / "records.jsonl").read_bytes()).hexdigest()
    assert digest in shown(render_report(run))


def test_lots_and_types_stand_with_their_intervals(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    for number in range(60):
        verdict = Verdict.PASS if number % 3 else Verdict.DEFECT
        path = f"line/lot-{number % 3}/{number}.png"
        run.append(Inspection(make_record(number, verdict, path=path, product=f"cap {number % 2}")), None)
    words = shown(render_report(run))
    assert re.search(r"lot-0 20 0\s% 0\s% to 16.8\s% 0 0 20 0 0", words)
    assert re.search(r"lot-1 20 100\s% 83.2\s% to 100\s% 20 0 0 0 0", words)
    assert re.search(r"cap 0 30 66.7\s%", words)
    assert "drift check MODEL IMAGES" in words


def test_many_lots_and_kinds_are_bounded_and_nothing_is_lost(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    rows = [
        make_record(i, Verdict.DEFECT, path=f"lot-{i % 50}/{i}.png", label=f"kind {i % 40}")
        for i in range(600)
    ]
    (run.path / "records.jsonl").write_text("".join(f"{to_json(row)}\n" for row in rows))
    words = shown(render_report(RunFolder.open(run.path)))
    assert "24 of lowest yield among 50 lots" in words
    assert len(re.findall(r"lot-\d+ 12 0", words)) == 24
    assert re.search(r"21 rarer kinds together 315 0 0 315 0 0 100\s%", words)


class Reviewed:
    """A run that somebody looked at."""

    def __init__(self, run: RunFolder, *said: ReviewEntry) -> None:
        self._run = run
        self.reviews = list(zip(run.records, said, strict=False))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def test_what_people_said_stands_against_the_verdicts(make_record: MakeRecord, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunFacts())
    verdicts = [Verdict.DEFECT, Verdict.PASS, Verdict.DEFECT, Verdict.REVIEW, Verdict.DEFECT, Verdict.OOD]
    labels = ["scratch", "good", None, "dent", "dent", None]
    for number, (verdict, label) in enumerate(zip(verdicts, labels, strict=True)):
        run.append(Inspection(make_record(number, verdict, label=label, strangeness=2.0)), None)
    assert "What people said" not in shown(render_report(run))
    said = [
        ReviewEntry("good", "Ada", note="a reflection"),
        ReviewEntry("defect", "Bo", "crack"),
        ReviewEntry("defect", "Bo"),
        ReviewEntry("unsure", "Bo"),
        ReviewEntry("defect", "Bo"),
    ]
    reviewed = Reviewed(run, *said)
    words = shown(render_report(reviewed))
    assert "good 0 0 1 0 0 1 defect 1 0 2 0 0 3 unsure 0 1 0 0 0 1" in words
    # Two reviews contradict the verdict; the others do not.
    assert "part_0000 DEFECT good Ada a reflection part_0001 PASS defect, crack Bo" in words
    assert kinds_table(run.records, reviewed.reviews).keys() == {"dent", "crack", "defect, kind not named"}
    assert kinds_table(run.records).keys() == {"dent", "scratch"}


def test_a_p_value_line_says_how_many_good_parts_it_takes(make_run: MakeRun) -> None:
    run = make_run(["good"] * 40 + ["scratch"] * 4)
    sentences = false_alarm_sentences(recorded_counts(run.records), columns_of(run.records), run.facts)
    p_values = columns_of(run.records).p_value
    found = good_among_flagged(p_values, 0.05, 200)
    assert found.flagged > 0
    assert (
        f"Of the {found.flagged} parts with a p-value of 5.0 % or below, the line of T1, about "
        f"{found.expected:.1f} are expected to be good, and with 95 % confidence no more than "
        f"{found.at_most}."
    ) in sentences
    # A calibration too small for the line promises no number.
    few = replace(run.facts, calibration=CalibrationFacts(50, 0.05, 0.01, 1 / 51))
    said = " ".join(false_alarm_sentences(recorded_counts(run.records), columns_of(run.records), few))
    assert "line of T1" in said
    assert "line of T2" not in said
