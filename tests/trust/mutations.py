"""Damage to bytes and to trees of JSON, from a seed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np


def mutate_bytes(blob: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, insert, overwrite, double or splice some bytes."""
    length = max(1, len(blob))
    at, span = int(rng.integers(length)), int(rng.integers(1, 1 + min(64, length)))
    match int(rng.integers(6)):
        case 0:
            flipped = bytearray(blob)
            for place in rng.integers(0, length, int(rng.integers(1, 9))) if blob else ():
                flipped[place] ^= 1 << int(rng.integers(8))
            return bytes(flipped)
        case 1:
            return blob[:at] + blob[at + span :]
        case 2:
            return blob[:at] + rng.bytes(span) + blob[at:]
        case 3:
            return blob[:at] + rng.bytes(span) + blob[at + span :]
        case 4:
            return blob[: at + span] + blob[at:]
        case _:
            there = int(rng.integers(max(1, len(other))))
            return blob[:at] + other[there:]


# What a field may hold that it should not: the ends of every range, other types, other spellings, paths.
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        3,
        7,
        64,
        255,
        8192,
        65_536,
        2**31,
        2**32,
        2**63,
        2**64,
        10**30,
        -(2**63),
    ),
    *(0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, -1e300, 5e-324, 0.1, 0.999999),
    *(
        "",
        "0",
        "split",
        "variations",
        "../x",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "resnet18",
        "test_vit",
        "9" * 400,
    ),
    *("test_resnet", "tf_efficientnet_lite0", "hf-hub:a/b", "test_convnext", "vit_tiny_patch16_224", "nan"),
    *([], {}, [0], [[0.0]], [8, 8], [1.0, 1.0], {"a": 1}, [[]], [None], [{}], ["x"] * 100, [0.5] * 9),
)


def mutate_tree(tree: Any, rng: np.random.Generator) -> None:
    """Change one place in a tree of JSON: its value, its key, its length, or with another place's value."""
    places = list(_places(tree))
    holder, key = places[int(rng.integers(len(places)))]
    match int(rng.integers(7)):
        case 0 | 1:
            holder[key] = copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
        case 2:
            del holder[key]
        case 3:
            other, name = places[int(rng.integers(len(places)))]
            holder[key] = copy.deepcopy(other[name])
        case 4 if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case 4 | 5 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case _:
            holder[key] = _nearby(holder[key], rng)


def _nearby(value: Any, rng: np.random.Generator) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            factors = (-1, 0.5, 2, 1.0001, 1e9)
            changed = (value + 1, value - 1, *(value * factor for factor in factors))
            return changed[int(rng.integers(len(changed)))]
        case str():
            return value[::-1] if rng.integers(2) else value + "x"
        case list():
            return value[:-1] if rng.integers(2) else value + value
        case _:
            return [value]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])
