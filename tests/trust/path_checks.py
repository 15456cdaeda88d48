"""S4: names that lead elsewhere, in every place where a name comes from a file and not from a person.

Whoever types a command may name any file. What a manifest, a listing, a record of a run or a bundle names is
another matter: it is read below its own folder, or not at all. Two things are documented to be otherwise and
left out here: the ``path`` of a record, which says where a picture was when it was inspected, and links that
lie in a folder of pictures, which are followed like those of any folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from differnet.detection import BundleError, bundle
from differnet.images.layouts import read_layout
from differnet.images.reading import encode_png
from differnet.records import DiffernetError, Inspection, Record, Region, Verdict
from differnet.reporting import run_folder, write_report
from differnet.reporting.artefacts import encode_jpeg
from differnet.reporting.run import RunFacts
from differnet.reporting.run_folder import RunFolder
from differnet.strict_json import to_json
from trust.bundles import DENSITIES, FILES, make_bundle, manifest_of, reseal, sealed
from trust.finding import Figure, Finding

_SECRET = 113
_PART = encode_png(np.full((6, 8, 3), 90, np.uint8))
_MASK = encode_png(np.full((6, 8), 255, np.uint8))


def hostile_names(size: int, seed: int) -> list[str]:
    """Return names that lead elsewhere, or that break who handles them; each another one.

    Args:
        size: How many.
        seed: Of which are joined to which.
    """
    rng = np.random.default_rng(seed)
    ends = (
        *("secret.png", "secret.npz", "secret.jpg", "secret", "secret.safetensors", "etc/passwd"),
        *("dev/zero", "proc/self/environ", "root/.ssh/id_rsa", "Windows/win.ini"),
    )
    # What stands before such an end, and what behind it.
    round_: list[tuple[str, str]] = [
        *(("../" * k, "") for k in (1, 2, 3, 4, 12, 2_000)),
        *(("..\\" * k, "") for k in (1, 2, 3, 12)),
        *(("shots/" + "../" * k, "") for k in (2, 3, 4)),
        *(
            (way, "")
            for way in ("..\\../", "shots/./.././../", "shots/..\\../", "....//....//", " ../", "../ ")
        ),
        *(
            (way, "")
            for way in ("..;/", "%2e%2e%2f", "/", "//", "\\", "\\\\host\\share\\", "\\\\?\\C:\\", "C:\\")
        ),
        *(
            (way, "")
            for way in ("c:/", "c:../", "shots/c:/", "file:///", "http://127.0.0.1/", "~/", "$HOME/")
        ),
        *((way, "") for way in ("shots/000.png\0/../../", "shots/000.png\n../", "-rf ", "| cat ")),
        # Look-alikes of dots and slashes, a mark that turns the writing round, and halves of characters.
        *((way, "") for way in ("\u2024\u2024/", "\u2025/", "\uff0e\uff0e\uff0f", "..\u2215", "..\u2044")),
        *((way, "") for way in ("..\u2216", "\u202e../", "\ufeff../", "\ud800/../", "\udcff")),
        *(("../", tail) for tail in ("\0.png", "\n")),
        *(("", tail) for tail in ("x" * 300, "/" + "x" * 5_000, ":stream", ".")),
        ("x/" * 3_000, ""),
    ]
    alone = ["", ".", "./", "..", "/", "\\", "\0", "~", "CON", "NUL.png", "aux", "a\0b", "\ud800"]
    made = [before + end + after for before, after in round_ for end in ends]
    names = ["x" * 70_000, *alone, *(made[place] for place in rng.permutation(len(made)))]
    if size > len(names):
        raise ValueError(f"there are {len(names)} names, not {size}")
    # Few are drawn from all kinds, rather than from those that stand alone.
    return names[:size] if size > 2 * len(alone) else [names[i * 5 % len(names)] for i in range(size)]


@dataclass(frozen=True)
class _Place:
    """Somewhere that a name comes from.

    Attributes:
        name: In words.
        folder: Below which everything has to stay.
        ask: Gives the name to the program. Returns what became of it, and the paths that it was turned into.
    """

    name: str
    folder: Path
    ask: Callable[[str], tuple[str, Sequence[Path]]]


def traversal(size: int, seed: int) -> Finding:
    """S4: give each name to each place, and look for what is opened, returned or written outside.

    Args:
        size: How many names.
        seed: Of the names.
    """
    started = time.perf_counter()
    names = hostile_names(size, seed)
    told: Counter[str] = Counter()
    troubles: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch).resolve()
        _hide_secrets(work)
        places = _places(work / "a" / "box", seed)
        before = _outside(work)
        for place in places:
            for name in names:
                told[_asked(place, name, work, troubles)] += 1
            if (after := _outside(work)) != before:
                changed = {str(path) for path, _ in before ^ after}
                troubles.append(f"{place.name}: files outside changed: {sorted(changed)[:5]}")
                before = after
    figures: dict[str, Figure] = {
        "places": len(places),
        "read or written outside, or another error than a typed one": len(troubles),
        **dict(sorted(told.items())),
    }
    if troubles:
        figures["troubles"] = "; ".join(troubles[:8])[:3000]
    return Finding(
        "S4", "names that lead elsewhere", size, figures, not troubles, time.perf_counter() - started
    )


def _asked(place: _Place, name: str, work: Path, troubles: list[str]) -> str:
    with _opened_files() as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            what, paths = place.ask(name)
        except DiffernetError:
            what, paths = "refused", ()
        except Exception as error:
            what, paths = f"{type(error).__name__}", ()
            troubles.append(f"{place.name}, {name[:60]!r}: {type(error).__name__}: {str(error)[:100]}")
    touched = {
        "opened": [p for p in map(_real, opened) if _matters(p, work)],
        "gave": list(map(_real, paths)),
    }
    troubles += [
        f"{place.name}, {name[:60]!r}: {how} {str(path)[:80]}"
        for how, found in touched.items()
        for path in found
        if not path.is_relative_to(place.folder)
    ]
    return what


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))


def _matters(path: Path, work: Path) -> bool:
    """Whether a file is one that a hostile name may be after, and none of the interpreter's own."""
    return path.is_relative_to(work) or any(
        path.is_relative_to(root) for root in ("/etc", "/dev", "/root/.ssh", "/proc/self", "/proc/1")
    )


_watching: list[list[str]] = []
_hooked: list[bool] = []


@contextmanager
def _opened_files() -> Iterator[list[str]]:
    """Note every file that Python opens, makes, moves or removes. An audit hook stays for good, idle."""
    if not _hooked:
        sys.addaudithook(_note)
        _hooked.append(True)
    opened: list[str] = []
    _watching.append(opened)
    try:
        yield opened
    finally:
        _watching.remove(opened)


_EVENTS = frozenset(
    ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate")
)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in _EVENTS:
        _watching[-1].extend(
            os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes) and len(a) > 3
        )


def _hide_secrets(work: Path) -> None:
    """Put what must not be read wherever a few steps up lead."""
    box = work / "a" / "box"
    box.mkdir(parents=True)
    heat = io.BytesIO()
    np.savez_compressed(heat, heat_map=np.full((4, 4), _SECRET, np.float32))
    picture = np.full((6, 8, 3), _SECRET, np.uint8)
    for folder in (work, work / "a", box):
        (folder / "secret").write_text("secret")
        (folder / "secret.png").write_bytes(encode_png(picture))
        (folder / "secret.jpg").write_bytes(encode_jpeg(picture))
        (folder / "secret.npz").write_bytes(heat.getvalue())
        (folder / "secret.safetensors").write_bytes(b"secret")


def _outside(work: Path) -> frozenset[tuple[Path, str]]:
    """Return every file of the workshop that belongs to no place, with its hash."""
    own = work / "a" / "box"
    return frozenset(
        (path, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in work.rglob("*")
        if path.is_file() and (path.parent == own or not path.is_relative_to(own))
    )


def _places(box: Path, seed: int) -> list[_Place]:
    listings = _dataset(box / "listing"), _dataset(box / "lines")
    return [
        _Place("manifest.csv, path", listings[0], lambda name: _table(listings[0], name, "")),
        _Place("manifest.csv, mask", listings[0], lambda name: _table(listings[0], "shots/001.png", name)),
        _Place("manifest.jsonl, path", listings[1], lambda name: _lines(listings[1], {"path": name})),
        _Place(
            "manifest.jsonl, mask",
            listings[1],
            lambda name: _lines(listings[1], {"path": "shots/001.png", "mask": ["shots/000.png", name]}),
        ),
        *_real_iad_places(box / "real-iad"),
        _visa_place(box / "visa"),
        *_run_places(box),
        *_bundle_places(box, seed),
    ]


def _dataset(root: Path) -> Path:
    (root / "shots").mkdir(parents=True)
    for number in range(2):
        (root / "shots" / f"{number:03}.png").write_bytes(_PART)
    return root


def _paths_of(root: Path, layout: str) -> tuple[str, Sequence[Path]]:
    parts = read_layout(root, layout).parts
    return "stayed inside", [path for part in parts for path in (part.path, *part.mask_paths)]


def _table(root: Path, path: str, mask: str) -> tuple[str, Sequence[Path]]:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerows([["path", "label", "split", "mask"], ["shots/000.png", "good", "train", ""]])
    rows.writerow([path, "dent", "test", mask])
    (root / "manifest.csv").write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    return _paths_of(root, "manifest")


def _lines(root: Path, row: dict[str, Any]) -> tuple[str, Sequence[Path]]:
    good = {"path": "shots/000.png", "label": "good", "split": "train"}
    rows = (good, {"label": "dent", "split": "test", **row})
    (root / "manifest.jsonl").write_text("\n".join(json.dumps(each) for each in rows))
    return _paths_of(root, "manifest")


def _real_iad_places(root: Path) -> list[_Place]:
    for kind in ("OK", "NG/AK"):
        (root / "nut" / kind / "S0001").mkdir(parents=True)
        (root / "nut" / kind / "S0001" / "1.png").write_bytes(_PART)
    lists = root / "realiad_jsons"
    lists.mkdir()

    def ask(change: Callable[[dict[str, Any], str], None]) -> Callable[[str], tuple[str, Sequence[Path]]]:
        def asked(name: str) -> tuple[str, Sequence[Path]]:
            good = {"image_path": "OK/S0001/1.png", "anomaly_class": "OK", "mask_path": None}
            bad = {"image_path": "NG/AK/S0001/1.png", "anomaly_class": "AK", "mask_path": None}
            tree = {"meta": {"prefix": "nut/"}, "train": [good], "test": [bad]}
            change(tree, name)
            (lists / "nut.json").write_text(json.dumps(tree))
            return _paths_of(root, "real-iad")

        return asked

    return [
        _Place("Real-IAD, image_path", root, ask(lambda tree, name: tree["test"][0].update(image_path=name))),
        _Place("Real-IAD, mask_path", root, ask(lambda tree, name: tree["test"][0].update(mask_path=name))),
        _Place("Real-IAD, prefix", root, ask(lambda tree, name: tree["meta"].update(prefix=name))),
    ]


def _visa_place(root: Path) -> _Place:
    for kind in ("Normal", "Anomaly"):
        (root / "nut" / "Data" / "Images" / kind).mkdir(parents=True)
        (root / "nut" / "Data" / "Images" / kind / "000.JPG").write_bytes(_PART)
    (root / "split_csv").mkdir()

    def ask(name: str) -> tuple[str, Sequence[Path]]:
        text = io.StringIO()
        csv.writer(text).writerows(
            [
                ["object", "split", "label", "image", "mask"],
                ["nut", "train", "normal", "nut/Data/Images/Normal/000.JPG", ""],
                ["nut", "test", "anomaly", f"nut/{name}", ""],
            ]
        )
        (root / "split_csv" / "1cls.csv").write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
        return _paths_of(root, "visa")

    return _Place("VisA, image", root, ask)


def _record(number: int, **changes: Any) -> Record:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    record = Record("", digest[:16], "part", "top", "part.png", digest, Verdict.DEFECT, ("odd",))
    return replace(record, strangeness=3.0, width=900, height=700, **changes)


def _run_places(box: Path) -> list[_Place]:
    read, written = box / "run", box / "written"
    RunFolder.create(read, RunFacts(product="nut")).close()
    for folder in ("heat_maps", "pictures", "closeups"):
        (read / folder / "sub").mkdir()

    def ask(change: Callable[[str], dict[str, Any]]) -> Callable[[str], tuple[str, Sequence[Path]]]:
        def asked(name: str) -> tuple[str, Sequence[Path]]:
            record = replace(_record(0), **change(name))
            (read / "records.jsonl").write_bytes(to_json(record).encode("ascii") + b"\n")
            run = run_folder.RunFolder.open(read)
            (found,) = run.records
            things = run.heat_map(found), run.preview(found), run.closeup(found)
            if any(thing is not None and (np.abs(thing - _SECRET) < 9).any() for thing in things):
                return "a secret was shown", [Path("/")]
            write_report(run, read / "report.html")
            return "nothing to show" if all(t is None for t in things) else "shown", []

        return asked

    run = RunFolder.create(written, RunFacts(product="nut"))
    pixels = np.full((700, 900, 3), 90, np.uint8)
    region = Region(10, 10, 20, 20, 300, 9.0, 0.001)

    def append(name: str) -> tuple[str, Sequence[Path]]:
        hostile = _record(1, item_id=name, path=name, regions=(region,))
        kept = run.append(Inspection(hostile, np.ones((4, 4), np.float32)), pixels)
        made = [written / str(kept.heat_map_path), written / "pictures" / f"{kept.item_id}.jpg"]
        if not all(path.is_file() for path in made):
            return "lost", [Path("/")]
        return "kept under a name of its own", made

    return [
        _Place("records.jsonl, item_id", read, ask(lambda name: {"item_id": name})),
        _Place("records.jsonl, heat_map_path", read, ask(lambda name: {"heat_map_path": name})),
        _Place("a record that is kept", written, append),
    ]


def _bundle_places(box: Path, seed: int) -> list[_Place]:
    model = make_bundle(box / "trained", seed)
    true = {name: (model / name).read_bytes() for name in FILES}

    def ask(change: Callable[[str], None]) -> Callable[[str], tuple[str, Sequence[Path]]]:
        def asked(name: str) -> tuple[str, Sequence[Path]]:
            for file, content in true.items():
                (model / file).write_bytes(content)
            change(name)
            try:
                bundle.load_bundle(model, "cpu")
            except BundleError:
                return "refused", []
            return "loaded", [Path("/")]

        return asked

    def member(name: str) -> None:
        reseal(model, lambda fields: fields["files"].update({name: "0" * 64}))

    def instead(name: str) -> None:
        fields = manifest_of(model)
        fields["files"][name] = fields["files"].pop(DENSITIES)
        (model / "manifest.json").write_bytes(sealed(fields))

    def tensor(name: str) -> None:
        blob = true[DENSITIES]
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        header[name] = header.pop(next(iter(header)))
        words = json.dumps(header).encode()
        (model / DENSITIES).write_bytes(len(words).to_bytes(8, "little") + words + blob[8 + length :])
        reseal(model)

    def network(name: str) -> None:
        reseal(model, lambda fields: fields["provenance"]["backbone"].update(name=name))

    return [
        _Place("a bundle's further file", model, ask(member)),
        _Place("a bundle's file under another name", model, ask(instead)),
        _Place("a bundle's tensor", model, ask(tensor)),
        _Place("a bundle's network", model, ask(network)),
    ]
