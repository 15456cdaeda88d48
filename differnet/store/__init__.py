"""The inspection record in a database: SQLite in a file by default, PostgreSQL by URL."""

from differnet.store.connecting import StoreError, connect
from differnet.store.store import (
    Asked,
    CalibrationEntry,
    Judgement,
    ModelEntry,
    ReviewEntry,
    RunEntry,
    Store,
)
from differnet.store.upgrading import backup, check, newest, upgrade

__all__ = [
    "Asked",
    "CalibrationEntry",
    "Judgement",
    "ModelEntry",
    "ReviewEntry",
    "RunEntry",
    "Store",
    "StoreError",
    "backup",
    "check",
    "connect",
    "newest",
    "upgrade",
]
