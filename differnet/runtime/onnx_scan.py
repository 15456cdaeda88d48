"""Look through an ONNX file for tensors that lie outside of it, without onnx's own library.

An ONNX graph may name any file on the disk as the place of a tensor. What is inspected with is one file, and
one that names another is refused before a runtime sees it. Only the wire format of protocol buffers is read
(https://protobuf.dev/programming-guides/encoding/), and only messages that tensors can hide in.
"""

from __future__ import annotations

from collections.abc import Iterator

# Where messages that may hold a tensor lie: message -> field number -> message. From onnx.proto.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_DEEPEST = 32


class ScanError(ValueError):
    """Bytes that are no protocol buffer, or one nested beyond all graphs."""


def external_tensors(content: bytes) -> list[str]:
    """Return the names of tensors whose figures lie outside of an ONNX model.

    Args:
        content: Of the file.

    Raises:
        ScanError: It is no protocol buffer.

    Example:
        >>> external_tensors(b"")
        []
    """
    return list(_scan(memoryview(content), "model", 0))


def _scan(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ScanError(f"a graph nested deeper than {_DEEPEST} levels")
    inside, name, external = _INSIDE[kind], "", False
    for field, value in _fields(message):
        if kind == "tensor":
            external |= field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)
            if field == _NAME and isinstance(value, memoryview):
                name = bytes(value).decode("utf-8", "replace")
        elif field in inside and isinstance(value, memoryview):
            yield from _scan(value, inside[field], depth + 1)
    if external:
        yield name


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, at = _varint(message, at)
            case 5:
                length = 4
            case other:
                raise ScanError(f"a field of the wire type {other}")
        if at + length > len(message):
            raise ScanError("a field that ends beyond the file")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise ScanError("a number that does not end")
