"""Pictures that come twice in a run: a camera that stands still shows the same good part for ever."""

from __future__ import annotations

from dataclasses import replace

from differnet.records import Inspection, Record, Verdict

FLAG = "repeated"
_BEGINNING = "bit for bit the same picture as "
_ENDING = ": no two pictures of parts are, so the camera stands still, or a file was copied"


def told_repeated(record: Record, earlier: str) -> Record:
    """Return a record that says its picture came before, and does not pass.

    Args:
        record: As it was judged, or as it was told before, of whichever picture.
        earlier: Which one it repeats.

    Returns:
        REVIEW instead of PASS, with the reason first and the quality flag ``repeated``; told once, however
        often it is asked.
    """
    own = tuple(reason for reason in record.reasons if not reason.startswith(_BEGINNING))
    flags = tuple(flag for flag in record.quality_flags if flag != FLAG)
    return replace(
        record,
        verdict=Verdict.REVIEW if record.verdict is Verdict.PASS else record.verdict,
        reasons=(f"{_BEGINNING}{earlier}{_ENDING}", *own),
        quality_flags=(*flags, FLAG),
    )


class Repeats:
    """Tell what came before in one run.

    A verdict depends on the model and the picture alone, so that both give the same verdict again; that a
    picture has come before is a fact of the run, and is asked after the verdict.

    Example:
        >>> from differnet.records import Record
        >>> repeats, part = Repeats(), Record("", "1", "a", "", "a.png", "e3b0", Verdict.PASS, ("usual",))
        >>> again = Record("", "2", "b", "", "b.png", "e3b0", Verdict.PASS, ("usual",))
        >>> [repeats.asked(Inspection(r)).record.verdict.value for r in (part, again)]
        ['PASS', 'REVIEW']
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def asked(self, inspection: Inspection) -> Inspection:
        """Return the inspection, with REVIEW for PASS and a reason where its picture came before.

        Args:
            inspection: The next of the run. Where nothing could be read there is nothing to compare.
        """
        record = inspection.record
        if not record.sha256:
            return inspection
        earlier = self._first.get(record.sha256)
        # A file that was named twice is no second picture.
        if earlier is None or (record.path and record.path == earlier):
            self._first.setdefault(record.sha256, record.path or "an earlier one")
            return inspection
        return replace(inspection, record=told_repeated(record, earlier))
