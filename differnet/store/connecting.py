"""Engines: SQLite in a file beside the runs by default, PostgreSQL by its URL."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from differnet.records import DiffernetError

# How long a writer waits for another one before it gives up, seconds.
_PATIENCE = 30.0
_WRITES = "writes"


class StoreError(DiffernetError):
    """Raised when the store cannot be opened, or does not hold what is asked for."""


class NoRunError(StoreError):
    """Raised for a run that the store does not know."""


class StoreBusyError(StoreError):
    """Raised when the store did not answer in time."""

    passing = True


def connect(place: str | Path, *, read_only: bool = False) -> Engine:
    """Return an engine for a store.

    SQLite keeps its journal ahead of the data (WAL), so that readers never wait for a writer, and has every
    commit on the disk before it returns (``synchronous = FULL``): a verdict that was acknowledged survives a
    loss of power.

    Args:
        place: A file, made where there is none, or the URL of a PostgreSQL database.
        read_only: Nothing is written: neither rows nor a file.

    Raises:
        StoreError: The URL is of another engine, or its driver is not installed.
    """
    url = _url(place)
    backend = url.get_backend_name()
    try:
        if backend == "sqlite":
            return _sqlite_to_read(url) if read_only else _sqlite(url)
        if backend == "postgresql":
            told = {"options": "-c default_transaction_read_only=on"} if read_only else {}
            return create_engine(url, pool_pre_ping=True, connect_args=told)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            expected=f"a driver for {backend}",
            found=str(error),
            remedy="pip install 'differnet[postgresql]'",
        ) from error
    raise StoreError(
        expected="a file, or a URL that begins with postgresql:// or sqlite:///",
        found=url.render_as_string(hide_password=True),
        remedy="Keep the record in a file, or in PostgreSQL.",
    )


def shown_place(place: str | Path) -> str:
    """Return a place as it may be printed and logged: without its password.

    Example:
        >>> shown_place("postgresql://ada:secret@plant/parts"), shown_place("record.db")
        ('postgresql://ada:***@plant/parts', 'record.db')
    """
    if "://" not in str(place):
        return str(place)
    try:
        return make_url(str(place)).render_as_string(hide_password=True)
    except ArgumentError:
        return "a URL that cannot be read"


def writing(engine: Engine) -> Engine:
    """Return the same engine for transactions that write: in SQLite they take their turn at the beginning.

    A transaction that reads first and then wants to write is refused where another one wrote in between.
    """
    return engine.execution_options(**{_WRITES: True})


def now() -> str:
    """Return the time as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _url(place: str | Path) -> URL:
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise StoreError(
            expected="a file, or a URL such as postgresql://user@host/database",
            found="a URL that cannot be read",
            remedy="Write special characters of a password as %XX.",
        ) from error
    # The bare name stands for whichever driver is oldest; this one is the extra that is installed.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _sqlite_to_read(url: URL) -> Engine:
    _require_file(url)
    file = Path(str(url.database)).resolve()
    address = f"{file.as_uri()}?mode=ro"
    # Of a record that nobody can write SQLite can make no index of its journal, and needs none.
    if not os.access(file.parent, os.W_OK):
        address += "&immutable=1"

    def open_file() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=_PATIENCE, check_same_thread=False)

    # The driver is told by the function; the place is what messages show.
    return create_engine(url, creator=open_file)


def _require_file(url: URL) -> None:
    if url.database in (None, "", ":memory:"):
        raise StoreError(
            expected="a file for the record",
            found="a database in memory, which is gone with the program",
            remedy="Name a file.",
        )


def _sqlite(url: URL) -> Engine:
    _require_file(url)
    engine = create_engine(url, connect_args={"timeout": _PATIENCE})

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _: Any) -> None:
        # The driver begins transactions too late by itself: after the first read, before the first write.
        raw.isolation_level = None
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
