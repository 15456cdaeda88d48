"""Pictures that somebody sends are judged by their content alone, and never by what they are called."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trust.path_checks import hostile_names

from differnet.calibration import Suggestion
from differnet.detection import Detector, revisions_of
from differnet.images.reading import encode_png
from differnet.records import Inspection, Verdict
from differnet.store import Asked, StoreError
from differnet.tasks.learning import load_known
from differnet.tasks.places import WishError, Workspace
from differnet.tasks.seeing import thumbnails
from differnet.tasks.sent import MOST_SENT, Bench, Seen, Sent, bench_key, judge, keep, set_up
from tasks.conftest import Shop


@pytest.fixture(scope="module")
def bench(trained: Path) -> Bench:
    return Bench(Detector.load(trained / "model", device="cpu"))


def part(shop: Shop, number: int = 0) -> bytes:
    return sorted(shop.pictures.iterdir())[number].read_bytes()


def kept(shop: Shop, bench: Bench, seen: list[Seen], sent: list[Sent], name: str = "sent-1") -> str:
    contents = {each.sha256: each.content for each in sent}
    return keep(shop.store, Workspace(shop.place), bench, seen, contents, name, "ada")


def elsewhere(place: Path) -> set[Path]:
    """All files but those of uploads and of runs."""
    return {path for path in place.rglob("*") if not {"uploads", "runs"} & set(path.parts)}


def jpeg(content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_what_is_sent_gets_the_verdict_of_the_file(shop: Shop, bench: Bench) -> None:
    path = sorted(shop.pictures.iterdir())[3]
    (seen,) = judge(bench, [Sent("a.png", path.read_bytes())])
    wanted = bench.detector.inspect(path).record
    assert seen.record.verdict is wanted.verdict
    assert seen.record.sha256 == wanted.sha256
    assert seen.record.strangeness == pytest.approx(wanted.strangeness, rel=1e-4)
    assert seen.preview is not None
    assert seen.preview.shape == (48, 48, 3)
    assert seen.heat_map is not None
    assert np.isfinite(seen.heat_map).all()


def test_names_decide_nothing(shop: Shop, bench: Bench) -> None:
    content = part(shop)
    names = [
        "a.png",
        "a.exe",
        "a.jpg",
        "",
        "../../a.png",
        "a.png\0.sh",
        "\udcff",
        "<script>alert(1)</script>.png",
    ]
    seen = judge(bench, [Sent(name, content) for name in names])
    # In a batch sums come in another order; nothing else differs.
    assert np.ptp([each.record.strangeness or 0.0 for each in seen]) < 1e-6
    assert [each.name for each in seen[:5]] == ["a.png", "a.exe", "a.jpg", "picture", "a.png"]
    for each in seen:
        assert "/" not in each.name
        assert each.name.isprintable()
        each.record.path.encode("utf-8")


def test_no_hostile_name_is_read_or_written_anywhere(shop: Shop, bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode_png(np.full((9, 9, 3), 7, np.uint8)))
    content = part(shop)
    before = {
        path for path in tmp_path.rglob("*") if "uploads" not in path.parts and "runs" not in path.parts
    }
    names = hostile_names(200, 9)
    for start in range(0, len(names), MOST_SENT):
        sent = [Sent(name, content) for name in names[start : start + MOST_SENT]]
        seen = judge(bench, sent)
        assert {each.record.sha256 for each in seen} == {sent[0].sha256}
        kept(shop, bench, seen, sent, f"sent-{start}")
    assert [path.name for path in (shop.place / "uploads").iterdir()] == [f"{Sent('', content).sha256}.png"]
    assert elsewhere(tmp_path) == before
    for name in names[:40]:
        with pytest.raises((WishError, StoreError)):
            kept(shop, bench, seen, sent, name if name != "x" else "")


def test_the_ending_is_of_the_content(shop: Shop, bench: Bench) -> None:
    sent = [
        Sent("one.jpg", part(shop)),
        Sent("two.png", jpeg(part(shop, 1))),
        Sent("three.png", b"no picture"),
    ]
    seen = judge(bench, sent)
    assert [each.record.verdict is Verdict.INVALID for each in seen] == [False, False, True]
    assert kept(shop, bench, seen, sent) == "sent-1"
    endings = {path.stem: path.suffix for path in (shop.place / "uploads").iterdir()}
    assert [endings[each.sha256] for each in sent] == [".png", ".jpg", ".unread"]
    for each in sent:
        assert (shop.place / "uploads" / f"{each.sha256}{endings[each.sha256]}").read_bytes() == each.content


def test_what_is_kept_is_a_run_like_any_other(shop: Shop, bench: Bench) -> None:
    sent = [
        Sent("left view.png", part(shop)),
        Sent("right.png", part(shop, 1)),
        Sent("again.png", part(shop)),
    ]
    seen = judge(bench, sent)
    kept(shop, bench, seen, sent)
    run = shop.store.run("sent-1")
    assert run.finished_at is not None
    assert run.model_id == shop.model_id
    records = shop.store.items(Asked(run_id="sent-1"))
    # The same content twice is one item.
    assert len(records) == 2
    assert {record.part_id for record in records} <= {"left view", "right", "again"}
    for record in records:
        assert Path(record.path).parent == shop.place / "uploads"
        assert record.heat_map_path is not None
        assert (Path(run.folder) / record.heat_map_path).is_file()
        assert (Path(run.folder) / "pictures" / f"{record.item_id}.jpg").is_file()
    by_hash = {each.record.sha256: each.record for each in seen}
    assert all(r.strangeness == by_hash[r.sha256].strangeness for r in records)
    said = shop.store.audit()[0]
    assert (said["actor"], said["action"], said["facts"]) == ("ada", "kept sent pictures", {"pictures": 2})
    with pytest.raises(WishError, match="no run has yet"):
        kept(shop, bench, seen, sent)


def test_what_was_judged_otherwise_is_not_kept(shop: Shop, bench: Bench) -> None:
    sent = [Sent("a.png", part(shop))]
    seen = judge(bench, sent)
    other = Bench(load_known(shop.store, shop.model_id, "cpu"))
    other.detector.adopt_thresholds(0.5, 0.75, 1)
    with pytest.raises(WishError, match="judged otherwise"):
        kept(shop, other, seen, sent)
    with pytest.raises(WishError, match="found none"):
        kept(shop, bench, [], [])
    with pytest.raises(WishError, match="found another one"):
        keep(shop.store, Workspace(shop.place), bench, seen, {sent[0].sha256: b"other"}, "sent-2", "ada")
    assert shop.store.runs() == []


def test_pictures_that_differ_in_four_pixels_are_judged_apart(shop: Shop, bench: Bench) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(part(shop)))).copy()
    changed = pixels.copy()
    changed[20:24, 20:24] = 255 - changed[20:24, 20:24]
    sent = [Sent("a.png", encode_png(pixels)), Sent("a.png", encode_png(changed))]
    first, second = judge(bench, sent)
    assert first.record.sha256 != second.record.sha256
    assert first.record.strangeness != second.record.strangeness


def test_too_many_at_a_time_are_refused(shop: Shop, bench: Bench) -> None:
    with pytest.raises(WishError, match=f"{MOST_SENT} pictures at most"):
        judge(bench, [Sent("a.png", b"")] * (MOST_SENT + 1))
    assert judge(bench, []) == []


class Watching:
    """A detector that remembers how many judge with it at a time."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.settings = detector, detector.settings
        self.inside = self.most = 0

    def inspect_many(self, sources: list[Any]) -> Iterator[Inspection]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.3)
        found = list(self.detector.inspect_many(sources))
        self.inside -= 1
        return iter(found)


def test_two_pages_judge_one_after_the_other(shop: Shop, bench: Bench) -> None:
    watching: Any = Watching(bench.detector)
    shared = Bench(watching)
    found: list[Seen] = []
    threads = [
        threading.Thread(target=lambda n=n: found.extend(judge(shared, [Sent("a.png", part(shop, n))])))
        for n in (4, 4, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watching.most == 1
    assert len({each.record.sha256 for each in found}) == 2
    assert len(found) == 3


def test_the_key_of_a_model_changes_with_all_that_it_judges_by(shop: Shop) -> None:
    first = bench_key(shop.store, shop.model_id)
    assert bench_key(shop.store, shop.model_id) == first
    folder = shop.place / "models" / "plate"
    revisions_of(folder).path.write_text("{}\n")
    second = bench_key(shop.store, shop.model_id)
    assert second != first
    revisions_of(folder).path.unlink()
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert bench_key(shop.store, shop.model_id) not in (first, second)
    manifest.unlink()
    with pytest.raises(WishError, match="a model in"):
        bench_key(shop.store, shop.model_id)
    with pytest.raises(WishError, match="none of that id"):
        bench_key(shop.store, "m9")


def test_a_model_is_set_up_with_the_thresholds_in_force(shop: Shop) -> None:
    detector = load_known(shop.store, shop.model_id, "cpu")
    facts = detector.facts()
    wanted = Suggestion(0.5, 0.75, "by hand", (), ())
    revisions_of(shop.place / "models" / "plate").append(
        wanted,
        author="bo",
        reason="shift",
        model_id=facts["model_id"],
        calibration_id=facts["calibration_id"],
    )
    ready = set_up(shop.store, shop.model_id)
    assert (ready.detector.thresholds.review, ready.detector.thresholds.defect) == (0.5, 0.75)
    sent = [Sent("a.png", part(shop))]
    seen = judge(ready, sent)
    kept(shop, ready, seen, sent)
    run = shop.store.run("sent-1")
    assert (run.threshold_revision, run.t_review) == (1, 0.5)
    revision = shop.store.revision(run.model_id, run.calibration_id, 1)
    assert revision is not None
    assert revision.author == "bo"


def test_thumbnails_are_small_and_bad_files_have_none(shop: Shop, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(encode_png(np.full((600, 900, 3), 80, np.uint8)))
    torn = tmp_path / "torn.png"
    torn.write_bytes(large.read_bytes()[:-30])
    first, second, third = thumbnails([str(large), str(torn), str(tmp_path / "absent.png")], 240)
    assert first is not None
    assert Image.open(io.BytesIO(first)).size == (240, 160)
    assert (second, third) == (None, None)
    assert thumbnails([]) == []
