"""What a process says to whatever started it, and how an error is put into three lines."""

from __future__ import annotations

from enum import IntEnum

from differnet.records import DiffernetError


class ExitCode(IntEnum):
    """How a command ended. A script may rely on each."""

    OK = 0
    ERROR = 1
    USAGE = 2
    FAIL_ON = 3
    QUARANTINED = 4
    VERIFICATION = 5
    TRY_AGAIN = 75
    INTERRUPTED = 130


EXIT_CODES_HELP = (
    "Exit codes: 0 done, 1 error, 2 wrong usage, 3 the --fail-on condition, drift or a refused promotion, "
    "4 finished but some files could not be used, 5 a model failed its self-test, 75 busy: try again, "
    "130 interrupted: what is kept can be resumed."
)


class VerificationError(DiffernetError):
    """A model that is there, but is not as it was saved.

    Args:
        cause: What the model's own room found.
    """

    def __init__(self, cause: DiffernetError) -> None:
        super().__init__(expected=cause.expected, found=cause.found, remedy=cause.remedy)


class RefusedError(DiffernetError):
    """What was asked for could be done, but what was measured speaks against it."""


def exit_code_of(error: DiffernetError) -> ExitCode:
    """Choose the exit code for an error."""
    if isinstance(error, RefusedError):
        return ExitCode.FAIL_ON
    if isinstance(error, VerificationError):
        return ExitCode.VERIFICATION
    return ExitCode.TRY_AGAIN if error.passing else ExitCode.ERROR


def explained(error: Exception) -> tuple[tuple[str, str], ...]:
    """Put an error into three short lines.

    Args:
        error: Of differnet, of the system (a full disk, no permission), or a bug.

    Returns:
        Heading and words of each line.

    Example:
        >>> [words for _, words in explained(ZeroDivisionError("division by zero"))][1]
        'ZeroDivisionError: division by zero'
    """
    if isinstance(error, DiffernetError):
        expected, found, remedy = error.expected, error.found, error.remedy
    elif isinstance(error, OSError):
        expected = f"to read or write {error.filename}" if error.filename else "the system to allow this"
        found = f"{type(error).__name__}: {error.strerror or error}"
        remedy = "Check the path, its permissions and the free space."
    elif isinstance(error, MemoryError):
        expected = "enough memory"
        found = "none left"
        remedy = "Close other programs, or choose a smaller --image-size."
    else:
        expected = "no error that differnet does not know"
        found = f"{type(error).__name__}: {error}"
        remedy = "This is a bug. Run it again with --debug and report what that shows."
    return ("expected", expected), ("found", found), ("do this", remedy)
