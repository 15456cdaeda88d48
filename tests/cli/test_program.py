from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from differnet import __version__
from differnet.cli.program import SWITCHES, switches_first

Invoke = Callable[..., Result]

COMMANDS = (
    "demo",
    "data",
    "train",
    "calibrate",
    "threshold",
    "inspect",
    "drift",
    "evaluate",
    "benchmark",
    "flows",
    "report",
    "dashboard",
    "doctor",
)


SUBCOMMANDS = (
    *("data scan", "flows fit", "flows score", "flows sample", "drift check"),
    *(f"threshold {name}" for name in ("show", "suggest", "set", "history", "rollback")),
)


def process(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed program as a process of its own."""
    command = [sys.executable, "-c", "from differnet.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_help_names_every_command_and_the_exit_codes(invoke: Invoke) -> None:
    shown = invoke("--help")
    assert shown.exit_code == 0
    assert all(command in shown.stdout for command in COMMANDS)
    assert "quarantined" in shown.stdout or "could not be used" in shown.stdout


@pytest.mark.parametrize("command", [*COMMANDS, *SUBCOMMANDS])
def test_every_command_explains_itself(invoke: Invoke, command: str) -> None:
    shown = invoke(*command.split(), "--help")
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) > 5


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = ["torch", "timm", "pandas", "scipy", "sklearn", "cv2", "streamlit", "PIL"]
    code = f"import sys, differnet.cli; print(*(name for name in {heavy} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "", "")


def test_version_is_data(invoke: Invoke) -> None:
    shown = invoke("--version")
    assert (shown.exit_code, shown.stdout) == (0, f"differnet {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["data", "scan"],
        ["data", "scan", "x", "--no-such"],
        ["inspect", "m", "p", "--fail-on", "x"],
    ],
)
def test_wrong_usage_is_2(invoke: Invoke, arguments: list[str]) -> None:
    shown = invoke(*arguments)
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert "Traceback" not in shown.stderr


def test_an_error_is_three_lines_on_stderr(invoke: Invoke, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    shown = invoke("data", "scan", missing)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr.splitlines() == [
        f"expected: a folder at {missing}",
        "found:    nothing there",
        "do this:  Name the folder that holds the pictures.",
    ]


def test_debug_adds_the_traceback_and_may_stand_anywhere(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("data", "scan", tmp_path / "nowhere", "--debug")
    assert shown.exit_code == 1
    assert "Traceback" in shown.stderr
    assert "do this:" in shown.stderr


def test_a_bug_is_explained_without_a_traceback(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("differnet.images.scanning.scan", lambda *_, **__: 1 / 0)
    shown = invoke("data", "scan", "anything")
    assert shown.exit_code == 1
    assert "ZeroDivisionError" in shown.stderr
    assert "--debug" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_systems_refusal_names_the_file(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/there/parts")

    monkeypatch.setattr("differnet.images.scanning.scan", refuse)
    shown = invoke("data", "scan", "anything")
    assert shown.exit_code == 1
    assert "/there/parts" in shown.stderr
    assert "Permission denied" in shown.stderr


def test_an_interruption_is_130(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("differnet.images.scanning.scan", interrupt)
    assert invoke("data", "scan", "anything").exit_code == 130


def test_switches_stop_at_the_double_dash() -> None:
    assert switches_first(["a", "--debug", "--", "--quiet"]) == ["--debug", "a", "--", "--quiet"]
    assert set(SWITCHES) == {"--quiet", "--no-color", "--debug"}


def test_the_process_itself_ends_with_the_code(tmp_path: Path) -> None:
    ended = process("data", "scan", str(tmp_path / "nowhere"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("expected: a folder at ")
    assert ended.stdout == ""


def test_a_closed_pipe_is_no_traceback(tree: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from differnet.cli import main; main()",
        "data",
        "scan",
        str(tree),
        "--json",
    ]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    said = started.stderr.read().decode()
    started.stderr.close()
    started.wait(60)
    assert "Traceback" not in said
