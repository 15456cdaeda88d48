"""How long something takes, in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Say a time as a person would.

    Example:
        >>> duration(0.4), duration(8.26), duration(75), duration(7300)
        ('0.4 s', '8 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
