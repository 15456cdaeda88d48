"""The command line. Thin: it reads arguments, calls one room, and shows what came back."""

from __future__ import annotations

from differnet.cli.program import app


def main() -> None:
    """Run the command that the process was started with, and end the process with its exit code."""
    app()


__all__ = ["app", "main"]
