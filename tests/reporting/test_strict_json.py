"""Records survive the way to disk and back exactly, and nothing else passes for one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet.records import Record, Region, Verdict
from differnet.strict_json import RecordFormatError, from_json, to_json

MakeRecord = Callable[..., Record]

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=20)
REGIONS = st.builds(
    Region,
    x=st.integers(0, 9999),
    y=st.integers(0, 9999),
    width=st.integers(1, 99),
    height=st.integers(1, 99),
    area=st.integers(1, 9801),
    peak=FINITE,
    p_value=FINITE,
)
RECORDS = st.builds(
    Record,
    run_id=WORDS,
    item_id=WORDS,
    part_id=WORDS,
    view_id=WORDS,
    path=WORDS,
    sha256=WORDS,
    verdict=st.sampled_from(Verdict),
    reasons=st.lists(WORDS, max_size=3).map(tuple),
    label=st.none() | WORDS,
    strangeness=st.none() | FINITE,
    p_value=st.none() | FINITE,
    nll_global=st.none() | FINITE,
    regions=st.lists(REGIONS, max_size=3).map(tuple),
    width=st.integers(0, 10**6),
    inference_ms=FINITE,
    quality_flags=st.lists(WORDS, max_size=2).map(tuple),
)


@given(RECORDS)
def test_every_record_round_trips_exactly(record: Record) -> None:
    line = to_json(record)
    assert from_json(Record, line) == record
    assert "\n" not in line
    assert line.isascii()


def test_a_name_of_undecodable_bytes_round_trips(make_record: MakeRecord) -> None:
    record = make_record(1, Verdict.PASS, path=b"part\xff.png".decode("utf-8", "surrogateescape"))
    assert from_json(Record, to_json(record)).path == record.path


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["strangeness", "p_value", "inference_ms"])
def test_a_figure_that_is_not_finite_is_refused_on_writing(
    make_record: MakeRecord, field: str, figure: float
) -> None:
    with pytest.raises(RecordFormatError, match=field):
        to_json(make_record(1, Verdict.PASS, **{field: figure}))


def test_numpy_figures_are_written_as_numbers(make_record: MakeRecord) -> None:
    record = make_record(1, Verdict.PASS, strangeness=np.float32(1.5), width=np.int64(7))
    back = from_json(Record, to_json(record))
    assert (back.strangeness, back.width) == (1.5, 7)
    assert type(back.strangeness) is float


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"verdict": "MAYBE"}, "MAYBE"),
        ({"surprise": 1}, "surprise"),
        ({"width": 1.5}, "1.5"),
        ({"width": True}, "True"),
        ({"strangeness": "2"}, "2"),
        ({"reasons": "one"}, "one"),
        ({"regions": [{"x": 1}]}, "without"),
    ],
)
def test_what_is_not_a_record_is_refused(
    make_record: MakeRecord, change: dict[str, object], found: str
) -> None:
    tree = json.loads(to_json(make_record(1, Verdict.PASS))) | change
    with pytest.raises(RecordFormatError, match=found):
        from_json(Record, json.dumps(tree))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"run_id": NaN}',
        b'{"run_id": "a", "run_id": "b"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(line: bytes) -> None:
    with pytest.raises(RecordFormatError):
        from_json(Record, line)


def test_an_overflowing_number_is_refused(make_record: MakeRecord) -> None:
    line = to_json(make_record(1, Verdict.PASS, strangeness=1.25)).replace("1.25", "1e999")
    with pytest.raises(RecordFormatError, match="strangeness"):
        from_json(Record, line)


def test_a_missing_required_field_is_refused_and_a_new_field_with_default_may_be_absent(
    make_record: MakeRecord,
) -> None:
    tree = json.loads(to_json(make_record(1, Verdict.PASS)))
    del tree["quality_flags"]
    assert from_json(Record, json.dumps(tree)).quality_flags == ()
    del tree["sha256"]
    with pytest.raises(RecordFormatError, match="sha256"):
        from_json(Record, json.dumps(tree))


def test_every_field_of_a_record_is_written(make_record: MakeRecord) -> None:
    tree = json.loads(to_json(make_record(1, Verdict.PASS)))
    assert list(tree) == [field.name for field in dataclasses.fields(Record)]
