"""Pictures that somebody sends to a page: judged at once by their content, and kept if that is wanted.

A name that is sent is shown and nothing else: no path is made of it. What is kept lies under the sha256 of
its content. Decoding is done by a process of its own, as for batch jobs.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet.durable import write_file
from differnet.records import DiffernetError, Inspection, Picture, Record
from differnet.store import Store
from differnet.tasks.learning import load_known, model_place
from differnet.tasks.places import WishError, Workspace, plain_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from differnet.detection import Detector

MOST_SENT = 40
"""Pictures that a page judges at a time; more are a folder's, and a batch job's."""

_ENDINGS = {"png": "png", "jpeg": "jpg", "bmp": "bmp", "tiff": "tif", "webp": "webp", "pnm": "pnm"}
# Of names that are shown and kept.
_LONGEST_NAME = 120
_SECONDS = 30.0
_DECODERS = 2


@dataclass(frozen=True)
class Sent:
    """A file that was sent.

    Attributes:
        name: As the sender calls it.
        content: Its bytes.
    """

    name: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Seen:
    """A file that was judged.

    Attributes:
        name: As it was sent, shortened.
        record: The verdict.
        preview: ``(height, width, 3)`` RGB, 512 pixels at most; ``None`` where it could not be read.
        heat_map: ``(rows, columns)``, as a run keeps it; ``None`` where it was not judged.
        files: What a run keeps of it, see `Artefacts.pack`.
    """

    name: str
    record: Record
    preview: NDArray[np.uint8] | None = field(repr=False)
    heat_map: NDArray[np.float32] | None = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class Bench:
    """A model at hand for several pages.

    Attributes:
        detector: The model, with the thresholds that are in force for it.
        turn: Held by whoever judges: a model judges for one page at a time.
    """

    detector: Detector
    turn: threading.Lock = field(default_factory=threading.Lock)


def set_up(store: Store, model_id: str) -> Bench:
    """Load a model that the record knows; see `load_known`."""
    return Bench(load_known(store, model_id))


def bench_key(store: Store, model_id: str) -> str:
    """Name everything that a model judges by: its bundle, its calibration, and the thresholds set for it.

    The manifest names the sha256 of every file of the bundle.

    Raises:
        WishError: The model is not where the record says.
    """
    from differnet.detection import revisions_of

    folder = model_place(store, model_id)
    digest = hashlib.sha256()
    try:
        digest.update((folder / "manifest.json").read_bytes())
        thresholds = revisions_of(folder).path
        digest.update(thresholds.read_bytes() if thresholds.is_file() else b"")
    except OSError as error:
        raise WishError(
            expected=f"a model in {folder}",
            found=f"{type(error).__name__}: {error.strerror}",
            remedy="Choose another model.",
        ) from error
    return digest.hexdigest()


def judge(bench: Bench, sent: Sequence[Sent]) -> list[Seen]:
    """Judge files that were sent.

    Args:
        bench: The model.
        sent: `MOST_SENT` at most.

    Returns:
        What became of each, in their order; what is no picture is INVALID, with its reason.

    Raises:
        WishError: They are too many.
        DecoderError: The system starts no process to decode in.
    """
    if len(sent) > MOST_SENT:
        raise WishError(
            expected=f"{MOST_SENT} pictures at most at a time",
            found=f"{len(sent):,}",
            remedy="Put them into a folder on this machine, and inspect the folder.",
        )
    from differnet.images.decoders import Decoders, Limits

    detector = bench.detector
    with tempfile.TemporaryDirectory(prefix="differnet-sent-") as scratch:
        place = Path(scratch)
        for number, each in enumerate(sent):
            (place / f"{number}.sent").write_bytes(each.content)
        count = max(1, min(_DECODERS, len(sent)))
        limits = Limits(seconds=_SECONDS)
        with bench.turn, Decoders(detector.settings.reading, count=count, limits=limits) as pool:
            futures = [pool.decode(place / f"{number}.sent") for number in range(len(sent))]
            sources = [future.result() for future in futures]
            inspections = list(detector.inspect_many(sources))
        return [
            _seen(each, source, inspection, place)
            for each, source, inspection in zip(sent, sources, inspections, strict=True)
        ]


def keep(
    store: Store,
    workspace: Workspace,
    bench: Bench,
    seen: Sequence[Seen],
    contents: Mapping[str, bytes],
    run_id: str,
    author: str,
) -> str:
    """Make a run of files that were judged.

    Their content is kept as ``uploads/SHA256.ENDING``, with an ending by what they are. A file that was sent
    twice is one item.

    Args:
        store: The record.
        workspace: Where to.
        bench: What judged them.
        seen: What was judged, with the same model and thresholds.
        contents: Of each, by sha256.
        run_id: A name that no run has yet.
        author: Who sent them.

    Returns:
        The run's name.

    Raises:
        WishError: There is nothing to keep, the name does not serve, or another model judged them.
        StoreError: There is such a run, or the record cannot be written.
        RunError: The disk refused.
    """
    from differnet.detection import revision_of
    from differnet.reporting import Artefacts, run_facts
    from differnet.reporting.artefacts import make_folder
    from differnet.reporting.keeping import make_known

    facts = bench.detector.facts()
    judged_by = ("model_id", "calibration_id", "threshold_revision")
    if not seen or any(getattr(s.record, name) != facts[name] for s in seen for name in judged_by):
        raise WishError(
            expected="pictures that the chosen model has judged under its present thresholds",
            found="none" if not seen else "some that were judged otherwise",
            remedy="Let the model judge them, then keep them.",
        )
    folder = workspace.runs / plain_name(run_id)
    _require_new(store, run_id)
    make_folder(workspace.uploads)
    once = {each.record.sha256: each for each in seen}
    records = [
        replace(each.record, run_id=run_id, path=str(_kept(workspace.uploads, sha256, contents[sha256])))
        for sha256, each in once.items()
    ]
    artefacts = Artefacts(folder)
    artefacts.make()
    artefacts.keep({name: content for each in once.values() for name, content in each.files.items()})
    source = f"{len(records):,} pictures sent to the dashboard"
    revision = revision_of(bench.detector, model_place(store, facts["model_id"]))
    entry = make_known(store, replace(run_facts(facts, source, revision), run_id=run_id), folder)
    store.begin_run(entry)
    store.add_items(records)
    store.finish_run(run_id)
    store.note(author, "kept sent pictures", run_id, {"pictures": len(records)})
    return run_id


def _require_new(store: Store, run_id: str) -> None:
    from differnet.store import NoRunError

    try:
        store.run(run_id)
    except NoRunError:
        return
    raise WishError(expected="a name that no run has yet", found=run_id, remedy="Choose another name.")


def _seen(sent: Sent, source: Any, inspection: Inspection, place: Path) -> Seen:
    from differnet.reporting import Artefacts
    from differnet.reporting.tables import legible

    name = legible(sent.name.replace("\\", "/").rpartition("/")[2])[-_LONGEST_NAME:] or "picture"
    record = replace(
        inspection.record,
        # Where it lay for a moment says nothing, and its name is the sender's.
        path=name,
        part_id=Path(name).stem or name,
        sha256=sent.sha256,
        item_id=sent.sha256[:16],
    )
    pixels = source.pixels if isinstance(source, Picture) else None
    files = Artefacts.pack(record, inspection.heat_map, pixels)
    record = replace(
        record, heat_map_path=next((name for name in files if name.startswith("heat_maps/")), None)
    )
    shown = Artefacts(place / "shown")
    shown.make()
    shown.keep(files)
    return Seen(name, record, shown.preview(record), shown.heat_map(record), files)


def _kept(uploads: Path, sha256: str, content: bytes) -> Path:
    from differnet.images.headers import read_header

    if hashlib.sha256(content).hexdigest() != sha256:
        raise WishError(
            expected="the content that was judged", found="another one", remedy="Send the picture again."
        )
    try:
        ending = _ENDINGS[read_header(io.BytesIO(content), len(content)).kind]
    except DiffernetError:
        # It is kept beside its INVALID record, so that somebody can see what it is.
        ending = "unread"
    path = uploads / f"{sha256}.{ending}"
    if not path.is_file() or path.stat().st_size != len(content):
        write_file(path, content)
    return path
