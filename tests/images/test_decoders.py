"""A picture decoded elsewhere is the same picture, and what its decoder suffers costs that picture alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from differnet.images import decoders as room
from differnet.images.decoders import DecoderError, Decoders, Limits, Refused
from differnet.images.headers import Refusal
from differnet.images.reading import ImageError, ReadingRule, encode_png, file_hash, read_image
from differnet.records import Picture

RULE = ReadingRule(white_level=4095)


def noise(*shape: int, top: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, top, shape).astype(dtype)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    (tmp_path / "grey16.png").write_bytes(encode_png(noise(30, 20, top=4096, dtype=np.uint16)))
    Image.fromarray(noise(40, 25, 3)).save(tmp_path / "\u00fc, a.jpg", exif=_turned())
    Image.fromarray(noise(5, 7, 4)).save(tmp_path / "clear.png")
    (tmp_path / "torn.png").write_bytes(encode_png(noise(30, 20))[:-40])
    (tmp_path / "empty.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no\xfftext.png")).write_bytes(encode_png(noise(9, 9)))
    return tmp_path


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def process_of(decoders: Decoders) -> int:
    process = decoders._all[0]._started()
    return process.pid


def test_a_picture_is_the_same_as_decoded_here(parts: Path) -> None:
    with Decoders(RULE, count=2) as decoders:
        asked = {path: decoders.decode(path) for path in sorted(parts.iterdir())}
        found = {path: future.result() for path, future in asked.items()}
    kinds = [type(picture) for picture in found.values()]
    assert kinds.count(Picture) == 4
    assert kinds.count(Refused) == 2
    for path, there in found.items():
        if isinstance(there, Picture):
            here = read_image(path, RULE)
            assert np.array_equal(here.pixels, there.pixels)
            assert here.pixels.dtype == there.pixels.dtype
            assert replace(here, pixels=there.pixels, decode_ms=0.0) == replace(there, decode_ms=0.0)
        else:
            with pytest.raises(ImageError) as refused:
                read_image(path, RULE)
            assert str(refused.value) == str(there.error)
            assert refused.value.reason is there.error.reason
            assert there.sha256 == file_hash(path, RULE.max_file_bytes) != ""


@pytest.mark.parametrize("path", ["nowhere.png", ".", "a\0b.png"])
def test_what_is_no_file_is_refused_as_here(path: str, tmp_path: Path) -> None:
    with Decoders(RULE) as decoders:
        there = decoders.decode(tmp_path / path).result()
    assert isinstance(there, Refused)
    assert there.sha256 == ""
    with pytest.raises(ImageError) as refused:
        read_image(tmp_path / path, RULE)
    assert refused.value.reason is there.error.reason


def kill_at(patch: pytest.MonkeyPatch, step: str, times: int) -> None:
    """End a decoder's process before it is heard (``_hear``) or asked (``_ask``), so many times."""
    true, left = getattr(room, step), [times]

    def met(process: subprocess.Popen[bytes], *given: object) -> object:
        if left[0] > 0:
            left[0] -= 1
            os.kill(process.pid, signal.SIGSTOP)
            os.kill(process.pid, signal.SIGKILL)
        return true(process, *given)

    patch.setattr(room, step, met)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_decoder_that_dies_costs_one_picture(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(monkeypatch, "_ask", times=2)
    with Decoders(RULE) as decoders:
        lost = decoders.decode(parts / "clear.png").result()
        after = decoders.decode(parts / "clear.png").result()
    assert isinstance(lost, Refused)
    assert lost.error.reason is Refusal.CRASHED
    assert "signal 9" in lost.error.found
    assert isinstance(after, Picture)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("step", ["_hear", "_ask"])
def test_a_decoder_that_is_ended_once_costs_nothing(
    parts: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(monkeypatch, step, times=1)
    with Decoders(RULE) as decoders:
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_decoder_that_never_begins_is_no_fault_of_the_picture(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(monkeypatch, "_hear", times=2)
    with Decoders(RULE) as decoders:
        with pytest.raises(DecoderError, match="before it was asked anything"):
            decoders.decode(parts / "clear.png").result()
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_system_that_starts_no_process_is_told(
    parts: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with Decoders(RULE) as decoders:
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", refused)
            with pytest.raises(DecoderError, match=os.strerror(number)):
                decoders.decode(parts / "clear.png").result()
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_decoder_that_takes_too_long_is_ended(parts: Path) -> None:
    with Decoders(RULE, limits=Limits(seconds=1.0)) as decoders:
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)
        stuck = process_of(decoders)
        os.kill(stuck, signal.SIGSTOP)
        late = decoders.decode(parts / "clear.png").result()
        assert isinstance(late, Refused)
        assert late.error.reason is Refusal.TOO_SLOW
        assert process_of(decoders) != stuck
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks /proc how much is addressed")
def test_a_decoder_gets_no_more_memory_than_it_may(tmp_path: Path) -> None:
    # 50 Mpx take 150 MB as RGB; the process itself addresses several hundred.
    Image.new("L", (10_000, 5_000)).save(tmp_path / "large.png")
    with Decoders(ReadingRule()) as decoders:
        assert isinstance(decoders.decode(tmp_path / "large.png").result(), Picture)
        pid = process_of(decoders)
        addressed = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    with Decoders(ReadingRule(), limits=Limits(memory=addressed)) as decoders:
        found = decoders.decode(tmp_path / "large.png").result()
    assert isinstance(found, Refused)
    assert found.error.reason is Refusal.TOO_LARGE


def test_what_lies_where_the_job_was_started_is_not_run(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cv2.py", "queue.py", "json.py"):
        (parts / name).write_text("import os\nos._exit(7)\n")
    monkeypatch.chdir(parts)
    with Decoders(RULE) as decoders:
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="alarms of POSIX")
def test_a_decoder_that_goes_round_in_circles_ends_though_its_job_is_gone(parts: Path) -> None:
    # The largest of endlessly many zeros is looked for in C, as a codec would.
    program = "from differnet.images import decoder_process as d; d._GRACE = 0; "
    circling = f"{program} d.answer = lambda *_: max(iter(int, 1)); d.main()"
    child = subprocess.Popen(
        [sys.executable, "-c", circling, "0", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(b"{}\n")
    child.stdin.flush()
    assert child.wait(timeout=30) == -signal.SIGALRM
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def test_no_process_is_left_behind(parts: Path) -> None:
    with Decoders(RULE, count=2) as decoders:
        decoders.decode(parts / "clear.png").result()
        pid = process_of(decoders)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_decoder_outlives_signals_that_are_meant_for_the_job_and_ends_with_it(parts: Path) -> None:
    with Decoders(RULE) as decoders:
        decoders.decode(parts / "clear.png").result()
        pid = process_of(decoders)
        for kind in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, kind)
        assert isinstance(decoders.decode(parts / "clear.png").result(), Picture)
        assert process_of(decoders) == pid
        # The job's end is the end of the pipe.
        process = decoders._all[0]._started()
        assert process.stdin is not None
        process.stdin.close()
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.returncode == 0
