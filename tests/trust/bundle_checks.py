"""S1, S2 and S3: bundles that are hostile, that lost a bit, and that were mutated in twenty thousand ways."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from differnet.detection import BundleError, bundle
from differnet.images.synthetic import render_part
from differnet.records import Verdict
from trust.apart import Attempt, Hung, apart, hang_guard, here
from trust.bundles import (
    DENSITIES,
    FILES,
    HOSTILE,
    MANIFEST,
    TENSORS,
    Fields,
    id_of,
    make_bundle,
    sealed,
)
from trust.finding import Figure, Finding
from trust.mutations import mutate_bytes, mutate_tree

MOST_EXTRA_MIB = 64
MOST_SECONDS = 2.0
MOST_SECONDS_OF_A_MUTATION = 1.0
# What takes so long will not end by itself.
_PATIENCE = 60.0
_SOUND = ("refused", "loaded", "unchanged")
_PART = render_part(0, size=64).pixels


def hostile_bundles(size: int, seed: int, *, apart_: bool = True) -> Finding:
    """S1: load each hostile bundle once, and look for refusals, traces of code, time and memory.

    Args:
        size: How many of the forty, evenly from the list.
        seed: Of the bundle that they are made of.
        apart_: In a process of their own, with memory measured; else here, where a planted fault is met.
    """
    started = time.perf_counter()
    names = _evenly(list(HOSTILE), size)
    with _workshop(seed) as (work, model):
        mark = work / "mark"
        cases = [(str(_spoilt(work, model, name, number)), name) for number, name in enumerate(names)]
        given = (str(model), str(mark))
        outcomes = apart(_loader, given, cases) if apart_ else here(_loader, given, cases)
        ran = sum(o.told == "ran code" for o in outcomes) + mark.exists()
    refused = sum(o.told == "refused" for o in outcomes)
    slowest = max(range(len(names)), key=lambda i: outcomes[i].seconds)
    largest = max(range(len(names)), key=lambda i: outcomes[i].extra_mib)
    figures: dict[str, Figure] = {
        "refused": refused,
        "ran code": ran,
        "longest, s": round(outcomes[slowest].seconds, 3),
        "longest": names[slowest],
    }
    if apart_:
        figures["most extra memory, MiB"] = round(outcomes[largest].extra_mib, 1)
        figures["most extra memory"] = names[largest]
    others = [f"{name}: {o.told}" for name, o in zip(names, outcomes, strict=True) if o.told != "refused"]
    if others:
        figures["not refused"] = "; ".join(others)[:2000]
    passed = refused == len(names) and not ran and outcomes[slowest].seconds <= MOST_SECONDS
    passed = passed and (not apart_ or outcomes[largest].extra_mib <= MOST_EXTRA_MIB)
    return Finding("S1", "hostile bundles", len(names), figures, passed, time.perf_counter() - started)


def bit_flips(size: int, seed: int) -> Finding:
    """S2: flip one bit at a time, in each of the five files in turn, and load."""
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    seen: Counter[str] = Counter()
    missed: list[str] = []
    with _workshop(seed) as (_, model):
        _must_load(model)
        for number in range(size):
            path = model / FILES[number % len(FILES)]
            place, bit = int(rng.integers(path.stat().st_size)), 1 << int(rng.integers(8))
            with path.open("r+b") as stream:
                _flip(stream.fileno(), place, bit)
                told = _load(model)
                _flip(stream.fileno(), place, bit)
            seen[path.name] += 1
            if told != "refused":
                missed.append(f"bit {bit} of byte {place} of {path.name}: {told}")
        _must_load(model)
    figures: dict[str, Figure] = {"detected": size - len(missed), **{f"in {k}": v for k, v in seen.items()}}
    if missed:
        figures["missed"] = "; ".join(missed[:5])[:2000]
    return Finding("S2", "one flipped bit", size, figures, not missed, time.perf_counter() - started)


def mutated_bundles(size: int, seed: int) -> Finding:
    """S3: mutate a bundle, every second time with all hashes made right again, and load.

    A mutation that leaves its bundle sealed and sound may load: it is another model, of another identity,
    and is let to inspect a part. A mutation of bytes alone may not load, as its seal or a hash is broken.
    """
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    told: Counter[str] = Counter()
    troubles: list[str] = []
    slowest, over, what_was_slowest = 0.0, 0, ""
    with _workshop(seed) as (_, model):
        _must_load(model)
        true = {name: (model / name).read_bytes() for name in FILES}
        for number in range(size):
            kind = _KINDS[number % len(_KINDS)]
            mutation = kind.mutate(true, rng)
            for name, content in mutation.items():
                (model / name).write_bytes(content)
            begun = time.perf_counter()
            outcome = _load(model, judge=True)
            took = time.perf_counter() - begun
            for name in mutation:
                (model / name).write_bytes(true[name])
            over += took > MOST_SECONDS_OF_A_MUTATION
            if took > slowest:
                slowest, what_was_slowest = took, f"{kind.name}: {outcome}"
            same = all(content == true[name] for name, content in mutation.items())
            if outcome == "loaded" and not kind.resealed:
                outcome = "unchanged" if same else "a broken seal loaded"
            told[f"{kind.name}, {outcome}" if outcome in _SOUND else outcome[:60]] += 1
            if outcome not in _SOUND:
                troubles.append(f"{kind.name}, case {number}: {outcome}")
    figures: dict[str, Figure] = {
        "other than BundleError": len(troubles),
        "over 1 s": over,
        "longest, s": round(slowest, 3),
        "longest": what_was_slowest,
        **dict(sorted(told.items())),
    }
    if troubles:
        figures["troubles"] = "; ".join(troubles[:8])[:3000]
    passed = not troubles and not over
    return Finding("S3", "mutated bundles", size, figures, passed, time.perf_counter() - started)


def _loader(given: tuple[str, str]) -> Attempt:
    model, mark = Path(given[0]), Path(given[1])
    torch.set_num_threads(1)
    # Whatever is imported or allocated once must not count against the first hostile one.
    for _ in range(2):
        _must_load(model)

    def attempt(case: tuple[str, str]) -> str:
        told = _load(Path(case[0]))
        return "ran code" if mark.exists() else told

    return attempt


def _load(folder: Path, *, judge: bool = False) -> str:
    """Load and tell what happened; a bundle that hangs is told too.

    Args:
        folder: The bundle.
        judge: Let what loads inspect a part as well.
    """
    try:
        # Through its module, so that a fault planted there is met. Warnings are no refusals.
        with hang_guard(_PATIENCE), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = bundle.load_bundle(folder, "cpu")
            if judge:
                record = loaded.inspect(_PART).record
                if record.verdict is Verdict.PASS and not np.isfinite(record.strangeness or np.nan):
                    return "passed a part without a finite figure"
    except BundleError:
        return "refused"
    except Hung:
        return "hung"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "loaded"


def _must_load(model: Path) -> None:
    if (told := _load(model)) != "loaded":
        raise RuntimeError(f"the sound bundle does not load: {told}")


@contextmanager
def _workshop(seed: int) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch).resolve()
        yield work, make_bundle(work / "sound", seed)


def _spoilt(work: Path, model: Path, name: str, number: int) -> Path:
    folder = work / f"hostile-{number}"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes((model / file).read_bytes())
    HOSTILE[name](folder, work / "mark")
    return folder


def _evenly(names: list[str], size: int) -> list[str]:
    if size > len(names):
        raise ValueError(f"there are {len(names)} hostile bundles, not {size}")
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, size)]


def _flip(handle: int, place: int, bit: int) -> None:
    byte = os.pread(handle, 1, place)[0]
    os.pwrite(handle, bytes([byte ^ bit]), place)


# Mutations.

Files = dict[str, bytes]


@dataclass(frozen=True)
class _Kind:
    name: str
    resealed: bool
    mutate: Callable[[Files, np.random.Generator], Files]


def _raw_bytes(true: Files, rng: np.random.Generator) -> Files:
    name = FILES[int(rng.integers(len(FILES)))]
    other = FILES[int(rng.integers(len(FILES)))]
    return {name: mutate_bytes(true[name], true[other], rng)}


def _tree(true: Files, rng: np.random.Generator) -> Files:
    fields = json.loads(true[MANIFEST])
    fields.pop("seal")
    for _ in range(int(rng.integers(1, 4))):
        mutate_tree(fields, rng)
    return {MANIFEST: sealed(fields)}


def _header(true: Files, rng: np.random.Generator) -> Files:
    name = _a_tensor_file(rng)
    blob = true[name]
    (length,) = struct.unpack("<Q", blob[:8])
    words, body = blob[8 : 8 + length], blob[8 + length :]
    if rng.integers(3):
        header = json.loads(words)
        for _ in range(int(rng.integers(1, 4))):
            mutate_tree(header, rng)
            if not header:
                break
        words = json.dumps(header).encode()
    else:
        words = mutate_bytes(words, body, rng)
    told = len(words) if rng.integers(8) else int(rng.choice(np.array([0, 1, len(words) + 1, 2**22, 2**40])))
    return _rehashed(true, {name: struct.pack("<Q", told) + words + body})


def _body(true: Files, rng: np.random.Generator) -> Files:
    name = _a_tensor_file(rng)
    blob = true[name]
    (length,) = struct.unpack("<Q", blob[:8])
    head, body = blob[: 8 + length], blob[8 + length :]
    if rng.integers(3):
        # The same length: what is refused is refused for what it says, not for its size.
        changed = bytearray(body)
        for _ in range(int(rng.integers(1, 5))):
            at, span = int(rng.integers(len(body))), int(rng.integers(1, 65))
            changed[at : at + span] = rng.bytes(len(changed[at : at + span]))
        body = bytes(changed)
    else:
        body = mutate_bytes(body, true[_a_tensor_file(rng)], rng)
    return _rehashed(true, {name: head + body})


def _whole_files(true: Files, rng: np.random.Generator) -> Files:
    name, other = (TENSORS[int(place)] for place in rng.permutation(len(TENSORS))[:2])
    match int(rng.integers(3)):
        case 0:
            return _rehashed(true, {name: true[other]})
        case 1:
            return _rehashed(true, {name: true[name][: int(rng.integers(len(true[name])))]})
        case _:
            return _rehashed(true, {name: mutate_bytes(true[name], true[other], rng)})


def _a_tensor_file(rng: np.random.Generator) -> str:
    return TENSORS[int(rng.integers(len(TENSORS)))]


def _rehashed(true: Files, changed: Files) -> Files:
    """Make the manifest fit changed files: their hashes, and the model's id where that can be computed."""
    fields: Fields = json.loads(true[MANIFEST])
    fields.pop("seal")
    for name, content in changed.items():
        fields["files"][name] = hashlib.sha256(content).hexdigest()
    if DENSITIES in changed and (forged := _id_if_sound(changed[DENSITIES])) is not None:
        fields["model_id"] = forged
    return {**changed, MANIFEST: sealed(fields)}


def _id_if_sound(densities: bytes) -> str | None:
    try:
        return id_of(load(densities))
    except Exception:
        # Mutated so that no library reads it: then it has no id to forge.
        return None


# Half of bytes alone, half with every hash made right.
_KINDS = (
    _Kind("bytes", False, _raw_bytes),
    _Kind("tree of the manifest, re-sealed", True, _tree),
    _Kind("bytes", False, _raw_bytes),
    _Kind("header of tensors, re-sealed", True, _header),
    _Kind("bytes", False, _raw_bytes),
    _Kind("tree of the manifest, re-sealed", True, _tree),
    _Kind("bytes", False, _raw_bytes),
    _Kind("tensors, re-sealed", True, _body),
    _Kind("bytes", False, _raw_bytes),
    _Kind("whole files, re-sealed", True, _whole_files),
)
