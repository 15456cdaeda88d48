"""Loaded by every Python process of a dashboard under test: notes whom it calls and which files it writes.

What it notes is read by `browser.dashboard_process.Dashboard`. It changes nothing of what is done, but where
``DIFFERNET_TEST_SHORT`` is set, the sample product and trainings with the usual settings are small.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
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

_SMALL = {
    "SampleWish": {"train": 40, "good_test": 8, "per_defect": 2, "per_wrong": 1},
    "TrainWish": {"steps": 30, "folds": 2, "image_size": 128},
}


class _Shortened(importlib.abc.Loader):
    """Loads a module as usual, then makes the sample product and trainings small."""

    def __init__(self, usual: importlib.abc.Loader) -> None:
        self._usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._usual.exec_module(module)
        for wish, small in _SMALL.items():
            made: Any = getattr(module, wish).__init__
            names = made.__code__.co_varnames[1 : made.__code__.co_argcount]
            given = dict(zip(names[-len(made.__defaults__) :], made.__defaults__, strict=True))
            assert small.keys() <= given.keys()
            made.__defaults__ = tuple((given | small).values())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "differnet.tasks.wishes":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Shortened(spec.loader)
        return spec


if os.environ.get("DIFFERNET_TEST_SHORT"):
    sys.meta_path.insert(0, _Finder())
