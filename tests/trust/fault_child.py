"""One process that runs commands of the program, each in a fork of its own with a step or a limit that fails.

A fork has everything imported already, and no thread runs here: a command takes a second less. A question is
a line of JSON on standard input, the answer a line of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import differnet.batch
import differnet.detection
import differnet.reporting.artefacts
import differnet.store.queue
from differnet.cli import program
from trust.faults import Faults

_IMPORTED = (differnet.batch, differnet.detection, differnet.reporting.artefacts, differnet.store.queue)
_LIMITS = {"file bytes": resource.RLIMIT_FSIZE, "open files": resource.RLIMIT_NOFILE}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a fork; return its exit code, what it said, and what the fork found."""
    pipes = {name: os.pipe() for name in ("said", "report")}
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.close(pipes["said"][0])
            os.close(pipes["report"][0])
            os.dup2(pipes["said"][1], 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 0)
            # The streams of before remember what they were open for.
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = _command(asked, pipes["report"][1])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    told = {}
    for name, (reading, writing) in pipes.items():
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            told[name] = stream.read().decode("utf-8", "replace")
    status = os.waitpid(pid, 0)[1]
    report = json.loads(told["report"]) if told["report"] else {}
    return {"code": os.waitstatus_to_exitcode(status), "said": told["said"], **report}


def _command(asked: dict[str, Any], report: int) -> int:
    errors: list[str] = []
    explain = program._explain

    def explained(error: Exception) -> None:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        errors.extend([kinds[0], "DiffernetError" if "DiffernetError" in kinds else "other"])
        explain(error)

    program._explain = explained
    code = 0
    with ExitStack() as stack:
        faults = [
            stack.enter_context(Faults(**(f | {"below": Path(f["below"])}))) for f in asked.get("faults", ())
        ]
        for name, most in asked.get("limits", {}).items():
            resource.setrlimit(_LIMITS[name], (most, most))
        try:
            program.app(["--no-color", *asked["command"]], prog_name="differnet")
        except SystemExit as end:
            code = int(end.code or 0)
    steps = [fault.counted for fault in faults]
    found = {"error": errors, "steps": steps, "hit": any(fault.hit for fault in faults)}
    os.write(report, json.dumps(found).encode())
    return code


if __name__ == "__main__":
    main()
