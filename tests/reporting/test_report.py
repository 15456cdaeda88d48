"""The report is one file, runs nothing, fetches nothing, and says what is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from differnet.records import Inspection, Record, Verdict
from differnet.reporting.counts import recorded_counts
from differnet.reporting.report import headline, limit_sentences, promises, render_report, write_report
from differnet.reporting.run import CalibrationFacts, RunFacts
from differnet.reporting.run_folder import RunFolder

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
