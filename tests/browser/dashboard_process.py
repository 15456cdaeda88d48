"""The dashboard in a process of its own, started as a person starts it, and gone with all that it started."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Seconds until it answers; a busy machine with two processors takes about ten.
_START = 90.0
# Between two looks at whether it answers yet.
_LOOK = 0.05
# Another program may take a free port between finding and using it.
_PORTS_TRIED = 4

# A module there is loaded first by every Python process, and notes what the process does.
_OBSERVED = Path(__file__).parent / "observed"
_NOTES = "DIFFERNET_TEST_NOTES"
_SHORT = "DIFFERNET_TEST_SHORT"

_PROGRAM = "import sys; from differnet.cli import main; sys.exit(main())"
_MARK = "DIFFERNET_STARTED_BY_TEST"
# What belongs to the person who runs the tests, and not to a dashboard on a fresh machine.
_OWN = ("STREAMLIT_", "DIFFERNET_")


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that answers.

    Attributes:
        port: Of this machine.
        place: Of its record.
        workspace: Where its pages put models, runs and uploads.
        log: File of what it has said.
        marked: Variable and value that every process it started has in its environment.
        notes_file: What its processes did, a line each.
    """

    port: int
    place: Path
    workspace: Path
    log: Path
    marked: str
    notes_file: Path

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Return what it has said so far."""
        return self.log.read_text("utf-8", errors="replace")

    def called(self) -> set[str]:
        """Return the names and addresses that its processes looked up or connected to."""
        return {what for kind, what in self._notes() if kind == "call"}

    def written(self) -> set[Path]:
        """Return the paths that its processes opened for writing, made, moved or removed."""
        return {Path(what) for kind, what in self._notes() if kind == "write"}

    def _notes(self) -> list[tuple[str, str]]:
        return [tuple(json.loads(line)) for line in self.notes_file.read_text("utf-8").splitlines()]


@contextmanager
def served(
    folder: Path, *more: str | Path, record: Path | None = None, first: str = "", short: bool = False
) -> Iterator[Dashboard]:
    """Run ``differnet dashboard`` in a folder, and end it with all its children.

    Args:
        folder: Its working folder and home, which exists.
        more: Further arguments, such as a folder of runs or ``--read-only``.
        record: Place of the record; ``record.db`` in the folder otherwise.
        short: Make the sample product and trainings with the usual settings small.
        first: Python that runs in the command's process before it, to plant something.

    Yields:
        The dashboard, when it answers.

    Raises:
        RuntimeError: It ended, or does not answer in time.
    """
    place = record or folder / "record.db"
    log = folder / "dashboard.log"
    mark = uuid.uuid4().hex
    notes = folder / "notes.jsonl"
    paths = os.pathsep.join(filter(None, (str(_OBSERVED), os.environ.get("PYTHONPATH"))))
    environment = {name: words for name, words in os.environ.items() if not name.startswith(_OWN)}
    environment |= {_MARK: mark, _NOTES: str(notes), "HOME": str(folder), "PYTHONPATH": paths}
    environment |= {"PYTHONUNBUFFERED": "1", _SHORT: "1" if short else ""}
    for _ in range(_PORTS_TRIED):
        port = _free_port()
        command = [sys.executable, "-c", f"{first}\n{_PROGRAM}", "dashboard", *map(str, more)]
        options = ["--db", str(place), "--workspace", str(folder), "--port", str(port)]
        with log.open("wb") as told:
            process = subprocess.Popen(
                [*command, *options],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if _answers(process, port, log):
                try:
                    yield Dashboard(port, place, folder, log, f"{_MARK}={mark}", notes)
                except BaseException as error:
                    error.add_note(f"The dashboard said:\n{log.read_text('utf-8', errors='replace')[-6000:]}")
                    raise
                return
        finally:
            _end(process, f"{_MARK}={mark}")
    raise RuntimeError(
        f"no port stayed free; the dashboard said:\n{log.read_text('utf-8', errors='replace')}"
    )


def processes_of(marked: str) -> list[int]:
    """Return the living processes that have a variable in their environment, on Linux."""
    wanted = marked.encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            # Gone meanwhile, or somebody else's.
            continue
        if wanted in variables and state != "Z":
            found.append(int(entry.name))
    return found


def ask(
    port: int,
    path: str = "/",
    host: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    method: str = "GET",
    content: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """Ask the server at a port something, under any name.

    Args:
        port: Of this machine.
        path: What is asked for.
        host: The Host header; this machine's address otherwise.
        headers: Further ones.
        method: Such as ``PUT``.
        content: Of the request.

    Returns:
        Status, headers by name in lower case, and content; of a websocket only the answer to the handshake.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host if host is not None else f"127.0.0.1:{port}")
        for name, words in headers:
            connection.putheader(name, words)
        if content:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content or None)
        answer = connection.getresponse()
        told = {name.lower(): words for name, words in answer.getheaders()}
        return answer.status, told, b"" if answer.status == 101 else answer.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    """Wait until it answers; tell whether it does, or found its port taken."""
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if process.poll() is not None:
            said = log.read_text("utf-8", errors="replace")
            if "not available" in said or "another program listens" in said:
                return False
            raise RuntimeError(f"the dashboard ended with {process.returncode} and said:\n{said}")
        try:
            if ask(port, "/_stcore/health")[0] == 200:
                return True
        except OSError:
            time.sleep(_LOOK)
    raise RuntimeError(f"no answer in {_START:.0f} s; it said:\n{log.read_text('utf-8', errors='replace')}")


def _end(process: subprocess.Popen[bytes], marked: str) -> None:
    """End a process, its group, and what it started in groups of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Jobs outlive the page that started them: they are in sessions of their own.
    while found := processes_of(marked):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK)
