"""Frozen dataclasses to JSON and back, exactly, or not at all.

The types are read from the dataclass itself, so a field that is added to a record is carried
without another line here. What the reader does not know, it refuses: an unknown field, a missing
one without a default, a number where a word belongs, NaN, infinity, the same key twice.
"""

from __future__ import annotations

import json
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

from differnet.records import DiffernetError

Thing = TypeVar("Thing")
Converter = Callable[[Any, str], Any]

_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})


class RecordFormatError(DiffernetError):
    """Raised when a record cannot be written, or what is read is not one."""


def to_json(thing: object) -> str:
    """Write a dataclass as one line of ASCII JSON.

    Args:
        thing: A dataclass instance of the types that `from_json` reads.

    Returns:
        One line without the line end. Equal dataclasses give equal lines.

    Raises:
        RecordFormatError: A field holds NaN, infinity or a value of another type than declared.

    Example:
        >>> from differnet.records import Region
        >>> to_json(Region(1, 2, 3, 4, 9, 5.5, 0.01))
        '{"x": 1, "y": 2, "width": 3, "height": 4, "area": 9, "peak": 5.5, "p_value": 0.01}'
    """
    return json.dumps(_plain(thing, type(thing).__name__), allow_nan=False)


def from_json(kind: type[Thing], line: str | bytes) -> Thing:
    """Read one dataclass from JSON.

    Args:
        kind: The dataclass to make.
        line: UTF-8 text as written by `to_json`.

    Returns:
        An instance equal to the one that was written.

    Raises:
        RecordFormatError: The text is not JSON, or not exactly one such dataclass.

    Example:
        >>> from differnet.records import Region
        >>> region = Region(1, 2, 3, 4, 9, 5.5, 0.01)
        >>> from_json(Region, to_json(region)) == region
        True
    """
    try:
        tree = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordFormatError(
            expected="one JSON object",
            found=str(error)[:200],
            remedy="The file was not written by differnet, or was changed since.",
        ) from error
    return from_mapping(kind, tree)


def from_mapping(kind: type[Thing], tree: object) -> Thing:
    """Make a dataclass from the plain mappings and lists that JSON gives.

    Args:
        kind: The dataclass to make.
        tree: A mapping with one entry a field; fields with a default may be absent.

    Returns:
        The instance, nested dataclasses included.

    Raises:
        RecordFormatError: An entry is unknown, missing, or not of the declared type.
    """
    read = _reader(cast(type, kind))
    return cast(Thing, read(tree, kind.__name__))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("the same key stands twice in one object")
    return tree


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _refuse(where: str, expected: str, found: object) -> NoReturn:
    raise RecordFormatError(
        expected=f"{expected} in {where}",
        found=repr(found)[:120],
        remedy="Figures that could not be computed are written as null, never as NaN.",
    )


def _plain(thing: Any, where: str) -> Any:
    """Turn dataclasses into dictionaries, and check each field against its declared type."""
    # Most fields by far: the questions below take most of the time of a long run's lines.
    if type(thing) in _PLAIN_TYPES:
        return thing
    if is_dataclass(thing) and not isinstance(thing, type):
        hints = _hints(type(thing))
        return {
            name: _plain(_converter(hint)(getattr(thing, name), f"{where}.{name}"), f"{where}.{name}")
            for name, hint in hints.items()
        }
    if isinstance(thing, Enum):
        return thing.value
    if isinstance(thing, Mapping):
        return {key: _plain(value, f"{where}.{key}") for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [_plain(value, where) for value in thing]
    return thing


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(cast(Any, kind))}


@cache
def _reader(kind: type) -> Converter:
    """Build the function that reads one dataclass, once for each dataclass."""
    converters = {name: _converter(hint) for name, hint in _hints(kind).items()}
    required = {
        field.name
        for field in fields(cast(Any, kind))
        if field.default is MISSING and field.default_factory is MISSING
    }

    def read(tree: Any, where: str) -> Any:
        if isinstance(tree, kind):
            return tree
        if type(tree) is not dict and not isinstance(tree, Mapping):
            _refuse(where, "an object", tree)
        if unknown := tree.keys() - converters.keys():
            _refuse(where, "only known fields", sorted(map(str, unknown)))
        if absent := required - tree.keys():
            _refuse(where, "the required fields", f"without {sorted(absent)}")
        return kind(**{name: converters[name](value, name) for name, value in tree.items()})

    return read


@cache
def _converter(hint: Any) -> Converter:
    """Build the function that checks and converts one value of the hinted type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _optional(hint, arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin in (dict, Mapping):
        return _mapping(arguments[1])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if is_dataclass(hint):
        return _reader(cast(type, hint))
    if hint in _SCALARS:
        return _SCALARS[hint]
    raise TypeError(f"records hold no {hint!r}")


def _optional(hint: Any, arguments: tuple[Any, ...]) -> Converter:
    inner = [argument for argument in arguments if argument is not type(None)]
    if len(inner) != 1 or len(arguments) != 2:
        raise TypeError(f"records hold no {hint!r}")
    convert = _converter(inner[0])
    return lambda value, where: None if value is None else convert(value, where)


def _tuple(arguments: tuple[Any, ...]) -> Converter:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        convert = _converter(arguments[0])

        def read_any_length(value: Any, where: str) -> Any:
            if not isinstance(value, list | tuple):
                _refuse(where, "a list", value)
            return tuple(convert(item, where) for item in value)

        return read_any_length
    converters = [_converter(argument) for argument in arguments]

    def read_fixed_length(value: Any, where: str) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(converters):
            _refuse(where, f"a list of {len(converters)}", value)
        return tuple(convert(item, where) for convert, item in zip(converters, value, strict=True))

    return read_fixed_length


def _mapping(value_hint: Any) -> Converter:
    convert = _converter(value_hint)

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            _refuse(where, "an object", value)
        return {key: convert(item, f"{where}.{key}") for key, item in value.items()}

    return read


def _enum(kind: type[Enum]) -> Converter:
    def read(value: Any, where: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            _refuse(where, f"one of {[member.value for member in kind]}", value)

    return read


# The exact types come first below: they are nearly all values, and asking an abstract class costs
# as much as reading the whole line.
def _text(value: Any, where: str) -> str:
    if type(value) is str:
        return value
    if not isinstance(value, str):
        _refuse(where, "text", value)
    return str(value)


def _whole(value: Any, where: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        _refuse(where, "a whole number", value)
    return int(value)


def _finite(value: Any, where: str) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        _refuse(where, "a finite number", value)
    return float(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        _refuse(where, "true or false", value)
    return value


_SCALARS: dict[Any, Converter] = {str: _text, int: _whole, float: _finite, bool: _flag}
