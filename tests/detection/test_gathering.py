"""Features are gathered as they came, in memory or in a file, and moved together without a copy."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

import pytest
import torch

from differnet.detection.gathering import Features, Gathering, RoomError


def features(parts: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(parts, *shape, generator=generator)

    maps = (drawn(3, 4, 4).half(), drawn(5, 2, 2).half())
    kept = (torch.ones(4, 4, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool))
    return Features((drawn(7),), (drawn(4, 4, 3), drawn(2, 2, 5)), kept, (maps,), (None,))


def same(one: Features, other: Features) -> bool:
    pairs = zip(one.tensors, other.tensors, strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("in_memory", [1 << 30, 1])
def test_batches_stand_behind_one_another(place: Path, in_memory: int) -> None:
    gathering = Gathering(10, in_memory)
    assert gathering.features is None
    for batch in (features(4, 0), features(1, 1), features(3, 2)):
        gathering.add(batch)
    found = gathering.features
    assert found is not None
    assert len(found) == 8
    for of, batch in ((slice(0, 4), 0), (slice(4, 5), 1), (slice(5, 8), 2)):
        assert same(found[of], features(of.stop - of.start, batch))
    assert bool(list(place.iterdir())) == (in_memory == 1)
    del gathering, found
    gc.collect()
    assert not list(place.iterdir())


@pytest.mark.parametrize("in_memory", [1 << 30, 1])
def test_parts_are_kept_where_they_lie(place: Path, in_memory: int) -> None:
    gathering = Gathering(6, in_memory)
    gathering.add(features(6, 0))
    found = gathering.features
    assert found is not None
    before = [tensor.data_ptr() for tensor in found.tensors]
    kept = found.keep([0, 2, 3, 5])
    assert same(kept, features(6, 0)[torch.tensor([0, 2, 3, 5])])
    assert [tensor.data_ptr() for tensor in kept.tensors] == before
    # The file goes with the features that are left.
    del gathering, found
    gc.collect()
    assert same(kept, features(6, 0)[torch.tensor([0, 2, 3, 5])])
    assert bool(list(place.iterdir())) == (in_memory == 1)


def test_a_disk_without_room_is_told_before_anything_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    gathering = Gathering(6, 1)
    with pytest.raises(RoomError, match="No space left"):
        gathering.add(features(6, 0))
    del gathering
    gc.collect()
    assert not list(place.iterdir())
