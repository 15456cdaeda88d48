"""The inspection record in a database: SQLite in a file by default, PostgreSQL by URL."""

from differnet.store.connecting import NoRunError, StoreBusyError, StoreError, connect, shown_place
from differnet.store.entries import (
    Asked,
    CalibrationEntry,
    Judgement,
    ModelEntry,
    ReviewEntry,
    RevisionEntry,
    RunEntry,
    Said,
)
from differnet.store.run_table import RunTable
from differnet.store.store import Store
from differnet.store.upgrading import (
    backup,
    backup_into,
    backups_in,
    check,
    file_bytes,
    newest,
    upgrade,
)

__all__ = [
    "Asked",
    "CalibrationEntry",
    "Judgement",
    "ModelEntry",
    "NoRunError",
    "ReviewEntry",
    "RevisionEntry",
    "RunEntry",
    "RunTable",
    "Said",
    "Store",
    "StoreBusyError",
    "StoreError",
    "backup",
    "backup_into",
    "backups_in",
    "check",
    "connect",
    "file_bytes",
    "newest",
    "shown_place",
    "upgrade",
]
