"""What survives a loss of power: a file's bytes are one thing, its name in a folder another."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make new and changed names in a folder durable; Windows cannot open folders and needs no such step.

    Raises:
        OSError: The folder cannot be opened, or the disk fails.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
