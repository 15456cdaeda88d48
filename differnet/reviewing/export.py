"""Write what people said of pictures as a manifest that training, calibration and evaluation read."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from differnet.durable import write_file
from differnet.images.layouts import GOOD
from differnet.images.layouts.files import GOOD_NAMES
from differnet.images.layouts.listings import inside
from differnet.images.layouts.manifest import AMBIGUOUS, MANIFEST_SUFFIXES
from differnet.reviewing.judgements import LastWord, Located, ReviewError
from differnet.store import ReviewEntry

DEFECT = "defect"
"""Label of a defect of no kind, or of one that a manifest would read as something else."""

ASIDE_EVERY = 4
"""Of the good parts every so many, by the order of their sha256, are not learned from."""

# Names that a message lists.
_NAMED = 3
_COLUMNS = ("path", "label", "split", "product")


@dataclass(frozen=True)
class Exported:
    """What a manifest holds.

    Attributes:
        good, defects: Rows of each.
        aside: Good ones of them that are marked for testing.
        renamed_kinds: Kinds of defect that a manifest cannot hold, written as ``defect``.
    """

    good: int
    defects: int
    aside: int
    renamed_kinds: tuple[str, ...]


def export(located: Sequence[Located], listing: Path, *, hold_out: bool = False) -> Exported:
    """Write a manifest.

    Nothing is escaped for a spreadsheet: what is read back has to be what was written.

    Args:
        located: Pictures with the last word on each; what is unsure is left out.
        listing: File to write, .csv or .jsonl. Every picture lies in its folder or below.
        hold_out: Mark as test parts the defects and every fourth good part by the order of their sha256, as
            `differnet.reviewing.retraining` sets them aside; otherwise every part is one to train on.

    Returns:
        What was written.

    Raises:
        ReviewError: There is nothing to write, the file has another ending or is there already, a picture
            lies elsewhere or has a name that cannot be read back, or only some have a product.
    """
    _require_writable(listing)
    said = [one for one in located if one.word.entry.judgement != "unsure"]
    if not said:
        raise ReviewError(
            expected="pictures that somebody called good or defect",
            found="none that is still there",
            remedy="Review some: differnet review add RUN ITEM --as good",
        )
    _require_one_product_each(said)
    aside = set_aside(one.word.record.sha256 for one in said if one.word.entry.judgement == "good")
    renamed: Counter[str] = Counter()
    rows: list[dict[str, str]] = []
    for one, name in zip(said, _names(said, listing), strict=True):
        label = label_of(one.word.entry)
        kind = one.word.entry.kind.strip()
        if kind and label != kind:
            renamed[kind] += 1
        tested = hold_out and (label != GOOD or one.word.record.sha256 in aside)
        row = {"path": name, "label": label, "split": "test" if tested else "train"}
        rows.append(row | {"product": one.word.record.product})
    columns = [column for column in _COLUMNS if any(row[column] for row in rows)]
    text = (_table if listing.suffix.lower() == ".csv" else _lines)(columns, rows)
    write_file(listing, text.encode("utf-8"))
    good = sum(row["label"] == GOOD for row in rows)
    tested_good = sum(row["label"] == GOOD and row["split"] == "test" for row in rows)
    return Exported(good, len(rows) - good, tested_good, tuple(sorted(renamed)))


def export_beside(located: Sequence[Located], name: str, *, hold_out: bool = False) -> tuple[Path, Exported]:
    """Write a manifest into the folder that all pictures lie in.

    Args:
        located: As in `export`.
        name: Of the file: a plain name, no path.
        hold_out: As in `export`.

    Returns:
        The file, and what was written.

    Raises:
        ReviewError: As in `export`, the name is none, the pictures have no folder in common, or the disk
            refused.
    """
    plain = name.strip()
    if (
        plain != Path(plain).name
        or not plain.isprintable()
        or set(plain) & set("/\\:")
        or plain[:1] in ("", ".")
    ):
        raise ReviewError(
            expected="a plain file name such as reviewed.csv",
            found=ascii(name[:80]),
            remedy="It is written beside the pictures: leave folders out.",
        )
    folder = manifest_folder(located)
    if folder is None:
        raise ReviewError(
            expected="pictures below one folder",
            found=f"{len(located):,} that have none in common" if located else "none that is still there",
            remedy="Export one run at a time, each beside its pictures.",
        )
    listing = folder / plain
    try:
        return listing, export(located, listing, hold_out=hold_out)
    except OSError as error:
        raise ReviewError(
            expected=f"to write {listing}",
            found=f"{type(error).__name__}: {error.strerror}",
            remedy="Check free space and permissions of the folder.",
        ) from error


def manifest_folder(located: Sequence[Located]) -> Path | None:
    """Return the folder that all pictures lie in or below, where there is one that is no root."""
    if not located:
        return None
    return _common_folder([one.path.parent.resolve() / one.path.name for one in located])


def set_aside(hashes: Iterable[str]) -> frozenset[str]:
    """Choose which good parts are not learned from: the 4th, 8th, 12th ... by the order of their sha256.

    A hash knows nothing of what a part looks like, and nobody can choose it.

    Example:
        >>> sorted(set_aside(["d", "a", "c", "b", "e", "a"]))
        ['d']
    """
    return frozenset(sorted(set(hashes))[ASIDE_EVERY - 1 :: ASIDE_EVERY])


def label_of(entry: ReviewEntry) -> str:
    """Return the label of a picture that was called good or defect: its kind, where that reads back as one.

    Example:
        >>> label_of(ReviewEntry("good", "ada")), label_of(ReviewEntry("defect", "ada", kind="dent"))
        ('good', 'dent')
        >>> label_of(ReviewEntry("defect", "ada", kind="OK")), label_of(ReviewEntry("defect", "ada"))
        ('defect', 'defect')
    """
    if entry.judgement == "good":
        return GOOD
    return entry.kind.strip() if is_kind(entry.kind) else DEFECT


def is_kind(kind: str) -> bool:
    """Whether a manifest reads a word as a kind of defect: one line of text that means neither good nor both.

    Example:
        >>> is_kind("scratch"), is_kind("good"), is_kind("1"), is_kind("")
        (True, False, False, False)
    """
    word = kind.strip()
    return word.isprintable() and bool(word) and word.lower() not in GOOD_NAMES | AMBIGUOUS


def unsure(words: Iterable[LastWord]) -> int:
    """Count the pictures whose last word is that nobody can tell."""
    return sum(word.entry.judgement == "unsure" for word in words)


def _require_writable(listing: Path) -> None:
    if listing.suffix.lower() not in MANIFEST_SUFFIXES:
        raise ReviewError(
            expected=f"a file ending in {' or '.join(sorted(MANIFEST_SUFFIXES))}",
            found=str(listing),
            remedy="The ending chooses the form: a table, or JSON lines.",
        )
    if listing.exists():
        raise ReviewError(
            expected=f"nothing yet at {listing}",
            found="a file" if listing.is_file() else "something",
            remedy="Choose another name, or remove it: nothing is overwritten.",
        )


def _require_one_product_each(said: Sequence[Located]) -> None:
    """Refuse what the reader would: a product in some rows only, or a picture in two rows."""
    products = {one.word.record.product for one in said}
    if "" in products and len(products) > 1:
        raise ReviewError(
            expected="a product for every picture, or for none",
            found=f"pictures of {', '.join(sorted(products - {''}))} and pictures of no product",
            remedy="Export one product: --product NAME.",
        )
    odd = next((name for name in products if name != name.strip() or (name and not name.isprintable())), None)
    if odd is not None:
        raise ReviewError(
            expected="products with names of one line, without spaces around them",
            found=ascii(odd),
            remedy="Export another product: --product NAME.",
        )
    places = Counter(one.path.resolve() for one in said)
    path, times = places.most_common(1)[0]
    if times > 1:
        raise ReviewError(
            expected="every picture once",
            found=f"{path}, judged as each of {', '.join(sorted(products))}",
            remedy="Export one product: --product NAME.",
        )


def _names(said: Sequence[Located], listing: Path) -> list[str]:
    """Name pictures by their paths below the listing's folder, as its reader will understand them."""
    folder = listing.parent.resolve()
    # A link to a picture keeps its name; a link on the way to it does not matter.
    paths = [one.path.parent.resolve() / one.path.name for one in said]
    outside = [path for path in paths if not path.is_relative_to(folder)]
    if outside:
        above = _common_folder(paths)
        raise ReviewError(
            expected=f"every picture in {folder} or below, where a manifest's pictures lie",
            found=f"{len(outside):,} of {len(paths):,} elsewhere, such as {outside[0]}",
            remedy=f"Write it above all of them, such as {above / listing.name}"
            if above is not None
            else "Export one product or run at a time, each beside its pictures.",
        )
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = listing.suffix.lower() == ".csv"
    unreadable = [name for name in names if not _reads_back(name, table)]
    if unreadable:
        shown = ", ".join(ascii(name) for name in unreadable[:_NAMED])
        only_table = table and all(_reads_back(name, False) for name in unreadable)
        raise ReviewError(
            expected="names that can be read back"
            + (" from a table: no line ends, no bytes that are no text" if only_table else ""),
            found=f"{len(unreadable):,} that cannot: {shown}" + (" ..." if len(unreadable) > _NAMED else ""),
            remedy="Write JSON lines instead: a name ending in .jsonl."
            if only_table
            else "Rename these files and inspect them again.",
        )
    return names


def _reads_back(name: str, table: bool) -> bool:
    """Whether a manifest's reader finds this very name.

    It takes spaces at the ends for its own and a backslash for a slash. A table's lines are split before its
    quotes are read, and it is UTF-8; JSON escapes all of these.
    """
    if inside(Path(), name.strip()) != Path(name) or not name.strip():
        return False
    return not table or (is_text(name) and not set("\r\n") & set(name))


def is_text(name: str) -> bool:
    r"""Whether a name is text, rather than bytes that no text has.

    Example:
        >>> is_text("Gehäuse.png"), is_text("\udcff.png")
        (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _common_folder(paths: Sequence[Path]) -> Path | None:
    first, *others = (path.parent for path in paths)
    shared = (above for above in (first, *first.parents) if all(o.is_relative_to(above) for o in others))
    found = next(shared, None)
    # A root is nobody's place for a list of pictures.
    return None if found is None or found == found.parent else found


def _table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _lines(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    return "".join(json.dumps({column: row[column] for column in columns}) + "\n" for row in rows)
