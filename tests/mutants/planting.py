"""Plant a fault: a function with one place of its source changed, in place of itself."""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Fault:
    """One changed place.

    Attributes:
        owner: Module or class that has the function.
        function: Its name.
        right: What stands there, once.
        wrong: What stands there instead.
        caught_by: A test function that has to fail then.
    """

    owner: Any
    function: str
    right: str
    wrong: str
    caught_by: Any

    def __str__(self) -> str:
        return f"{self.function}: {self.wrong or 'without ' + self.right}"[:70]


def plant(fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Put the faulty function in its place until ``patch`` is undone."""
    true = inspect.unwrap(inspect.getattr_static(fault.owner, fault.function))
    plain = true.__func__ if isinstance(true, classmethod) else true
    source = textwrap.dedent(inspect.getsource(plain))
    assert source.count(fault.right) == 1, f"{fault.right!r} stands {source.count(fault.right)} times"
    names = dict(vars(sys.modules[plain.__module__]))
    exec(compile(source.replace(fault.right, fault.wrong), f"<planted in {fault.function}>", "exec"), names)
    # Its code alone, so that whoever has imported the function by its name has the faulty one.
    faulty = inspect.unwrap(names[fault.function])
    patch.setattr(plain, "__code__", getattr(faulty, "__func__", faulty).__code__)


def fails(fault: Fault, request: pytest.FixtureRequest) -> bool:
    """Run the test that has to catch a planted fault, with its fixtures."""
    wanted = inspect.signature(fault.caught_by).parameters
    given = {
        name: request.getfixturevalue(name)
        for name, parameter in wanted.items()
        if parameter.default is inspect.Parameter.empty
    }
    try:
        fault.caught_by(**given)
    except (Exception, pytest.fail.Exception):
        return True
    return False
