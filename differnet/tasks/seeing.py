"""Small pictures of files for a page to show, decoded by a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SECONDS = 20.0


def thumbnails(paths: Sequence[str], side: int = 240) -> list[bytes | None]:
    """Return files as small JPEGs.

    Args:
        paths: Of the files.
        side: Longest side of what is returned, pixels.

    Returns:
        Each in its place; ``None`` where the file is no picture, or gone.

    Raises:
        DecoderError: The system starts no process to decode in.
    """
    from differnet.images.decoders import Decoders, Limits
    from differnet.images.reading import ReadingRule
    from differnet.records import Picture
    from differnet.reporting.artefacts import eight_bits, encode_jpeg, shrink

    if not paths:
        return []
    with Decoders(ReadingRule(), count=1, limits=Limits(seconds=_SECONDS)) as pool:
        found = [pool.decode(Path(path)).result() for path in paths]
    return [
        encode_jpeg(shrink(eight_bits(each.pixels), side)) if isinstance(each, Picture) else None
        for each in found
    ]
