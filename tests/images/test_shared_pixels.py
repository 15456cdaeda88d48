"""Pictures lie in shared memory for as long as somebody holds them, and not a moment longer."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from differnet.images import decoders as room
from differnet.images import shared_pixels
from differnet.images.decoders import Decoders, Refused
from differnet.images.headers import Refusal
from differnet.images.reading import ReadingRule, encode_png
from differnet.images.shared_pixels import SLOT_BYTES, SharedPixels, put
from differnet.records import Picture

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="shared memory of Linux")

RULE = ReadingRule()
SHAPE = (30, 20, 3)


@pytest.fixture
def shared() -> Iterator[SharedPixels]:
    memory = SharedPixels(2)
    yield memory
    memory.close()


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path in paths:
        path.write_bytes(encode_png(rng.integers(0, 256, SHAPE).astype(np.uint8)))
    return paths


def test_a_slot_is_free_again_when_the_last_view_of_its_picture_is_gone(shared: SharedPixels) -> None:
    first, second = shared.take(), shared.take()
    assert {first, second} == {0, SLOT_BYTES}
    assert shared.take() is None
    assert first is not None
    content = np.arange(np.prod(SHAPE), dtype=np.uint8)
    assert put(shared.handle, first, content.data)
    picture = shared.picture(first, SHAPE, "uint8")
    assert np.array_equal(picture.ravel(), content)
    view = picture[3:9, ::2][1:]
    del picture
    gc.collect()
    assert shared.take() is None
    assert np.array_equal(view, content.reshape(SHAPE)[4:9, ::2])
    del view
    gc.collect()
    assert shared.take() == first


def test_a_picture_outlives_the_memory_it_came_in() -> None:
    memory = SharedPixels(1)
    assert put(memory.handle, 0, memoryview(b"\7" * 12))
    picture = memory.picture(0, (2, 2, 3), "uint8")
    memory.close()
    del memory
    gc.collect()
    assert (picture == 7).all()


def test_memory_cannot_be_cut_short_by_the_process_that_fills_it(shared: SharedPixels) -> None:
    for size in (0, 3 * SLOT_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(shared.handle, size)
    with pytest.raises(PermissionError):
        os.pwrite(shared.handle, b"further", 2 * SLOT_BYTES)


@pytest.mark.parametrize("dtype", ["uint8", "float64", "object", "V4"])
@pytest.mark.parametrize(
    "shape",
    [
        (SLOT_BYTES + 1,),
        (0, 4, 3),
        (2**20, 2**20, 3),
        (-2, -6),
        (3, 6148914691236517206),
        (1.5, 2),
        (True, 2),
    ],
)
def test_pixels_that_fit_in_no_slot_are_not_believed(
    shared: SharedPixels, shape: tuple[int, ...], dtype: str
) -> None:
    slot = shared.take()
    assert slot is not None
    with pytest.raises(EOFError):
        shared.picture(slot, shape, dtype)
    gc.collect()
    # Whoever took it gives it back, and nobody else.
    assert len(shared._free) == 1


def test_what_fits_in_no_slot_is_not_put_there(shared: SharedPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_pixels, "SLOT_BYTES", 11)
    assert not put(shared.handle, 0, memoryview(bytes(12)))
    assert put(shared.handle, 0, memoryview(bytes(11)))
    assert not put(10**6, 0, memoryview(bytes(11)))


@pytest.mark.parametrize("slots", [0, 1, 3])
def test_pictures_are_the_same_however_many_slots_there_are(
    parts: list[Path], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SharedPixels, "if_possible", classmethod(lambda cls, _: cls(slots) if slots else None)
    )
    piped: list[int] = []
    true = room._read_pixels

    def counted(*given: object, **named: object) -> object:
        piped.append(1)
        return true(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "_read_pixels", counted)
    with Decoders(RULE) as decoders:
        found = [decoders.decode(path).result() for path in parts]
    # All are held at once; what has no slot comes through the pipe.
    assert len(piped) == len(parts) - slots
    for path, picture in zip(parts, found, strict=True):
        assert isinstance(picture, Picture)
        assert encode_png(picture.pixels) == path.read_bytes()
        assert picture.pixels.flags.writeable


def test_a_slot_is_given_back_by_a_picture_that_is_refused_and_by_a_decoder_that_dies(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SLOTS", 4)
    parts[0].write_bytes(b"no picture")
    with Decoders(RULE) as decoders:
        for _ in range(6):
            refused = decoders.decode(parts[0]).result()
            assert isinstance(refused, Refused)
            assert refused.error.reason is not Refusal.CRASHED
        for _ in range(6):
            decoders._all[0]._started().kill()
            assert isinstance(decoders.decode(parts[1]).result(), Picture)
        memory = decoders._all[0]._shared
        assert memory is not None
        gc.collect()
        assert len(memory._free) == 4
