"""Loaded by every Python process of a dashboard under test: notes whom it calls and which files it writes.

What it notes is read by `browser.dashboard_process.Dashboard.notes`. It changes nothing of what is done.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_notes = os.open(os.environ["DIFFERNET_TEST_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _note(kind: str, what: object) -> None:
    # One write a line, so that lines of several processes do not mix.
    os.write(_notes, json.dumps([kind, str(what)]).encode() + b"\n")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and flags & _WRITING:
            _note("write", os.path.realpath(os.fsdecode(path)))
    elif event in ("os.rename", "os.link", "os.symlink"):
        _note("write", os.path.realpath(os.fsdecode(arguments[1])))
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
        if isinstance(arguments[0], str | bytes):
            _note("write", os.path.realpath(os.fsdecode(arguments[0])))
    elif event in ("socket.connect", "socket.sendto"):
        if isinstance(arguments[1], tuple):
            _note("call", arguments[1][0])
    elif event == "socket.getaddrinfo":
        _note("call", arguments[0])


sys.addaudithook(_hook)
