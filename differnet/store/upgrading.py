"""The form of the store, and how an older one becomes that of today."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from differnet.durable import sync_folder
from differnet.store.connecting import StoreBusyError, StoreError, writing
from differnet.store.schema import metadata

BACKUP_NAME = "record"
_SCRIPTS = Path(__file__).resolve().parent / "migrations"


def upgrade(engine: Engine) -> str:
    """Bring a store to the form of today, from nothing or from any older form.

    Args:
        engine: From `connect`.

    Returns:
        The form's name.

    Raises:
        StoreError: It is of a newer form, is no store of this program, or the engine refused; it is then as
            it was.
    """
    with plainly(engine), writing(engine).begin() as connection:
        found = form(connection)
        if found is None and (tables := _foreign_tables(connection)):
            raise StoreError(
                expected="an empty database, or a record of this program",
                found=f"other tables: {', '.join(tables[:3])}",
                remedy="Name another file or database; nothing was changed.",
            )
        _require_known(found)
        command.upgrade(_config(connection), "head")
        return str(form(connection))


def require_current(engine: Engine) -> None:
    """Raise `StoreError` unless the store has the form of today."""
    with plainly(engine):
        with engine.connect() as connection:
            found = form(connection)
        _require_known(found)
        today = newest()
    if found != today:
        raise StoreError(
            expected=f"a record of form {today}",
            found="an empty database" if found is None else f"form {found}",
            remedy="Run: differnet db upgrade",
        )


def form(connection: Connection) -> str | None:
    """Return the form that a store says it has; ``None`` of an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Return the form of today."""
    return str(ScriptDirectory(str(_SCRIPTS)).get_current_head())


def differences(engine: Engine) -> list[str]:
    """Return in what a store differs from the tables that this program knows; nothing if it is sound."""
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    return [repr(difference) for difference in found]


def check(engine: Engine) -> list[str]:
    """Ask a store whether it is sound.

    Args:
        engine: From `connect`.

    Returns:
        What is wrong with it, in words: pages that are damaged, rows that refer to nothing, tables that are
        not as they should be.

    Raises:
        StoreError: It has another form, or cannot be read at all.
    """
    require_current(engine)
    wrong = [f"tables: {difference}" for difference in differences(engine)]
    if engine.dialect.name == "sqlite":
        with plainly(engine), engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        wrong += [f"pages: {page}" for page in pages if page != "ok"]
        wrong += [f"rows: {row[0]} {row[1]} refers to nothing in {row[2]}" for row in lost]
    return wrong


def backup(engine: Engine, to: Path) -> Path:
    """Copy a SQLite store while it is in use.

    Args:
        engine: From `connect`.
        to: A new file.

    Returns:
        ``to``, complete and on the disk.

    Raises:
        StoreError: ``to`` is there already, the store is PostgreSQL's, or the disk refused.
    """
    if engine.dialect.name != "sqlite":
        raise StoreError(
            expected="a record in a file",
            found=f"one in {engine.dialect.name}",
            remedy="Use that engine's own tool, such as pg_dump.",
        )
    if to.exists():
        raise StoreError(
            expected=f"no file at {to}", found="one", remedy="Name another; a backup overwrites nothing."
        )
    try:
        # In a folder of its own, which takes with it whatever SQLite may leave beside a draft.
        with tempfile.TemporaryDirectory(prefix=f".{to.name[:100]}.", dir=to.parent) as folder:
            draft = Path(folder) / to.name
            with (
                closing(sqlite3.connect(str(engine.url.database))) as source,
                closing(sqlite3.connect(draft)) as copy,
            ):
                source.backup(copy)
                # One file, without a journal beside it.
                copy.execute("PRAGMA journal_mode = DELETE")
            draft.replace(to)
        sync_folder(to.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            expected=f"to write {to}", found=str(error), remedy="Check free space and permissions."
        ) from error
    return to


def backup_into(engine: Engine, folder: Path) -> Path:
    """Copy a SQLite store into a folder, which is made where there is none, under a name of its time.

    Args:
        engine: From `connect`.
        folder: For backups.

    Returns:
        The copy.

    Raises:
        StoreError: As `backup`, or the folder cannot be made.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            expected=f"to write into {folder}", found=str(error), remedy="Check free space and permissions."
        ) from error
    return backup(engine, folder / f"{BACKUP_NAME}-{stamp}.db")


def backups_in(folder: Path) -> list[Path]:
    """Return the copies that `backup_into` made in a folder, the newest first."""
    return sorted(folder.glob(f"{BACKUP_NAME}-*.db"), reverse=True) if folder.is_dir() else []


def file_bytes(engine: Engine) -> int | None:
    """Return how large a SQLite store is on the disk, its journal included; ``None`` of another engine."""
    if engine.dialect.name != "sqlite":
        return None
    file = Path(str(engine.url.database))
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.is_file())


def _require_known(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            expected=f"a record of form {newest()} or older",
            found=f"form {found}",
            remedy="A newer version of differnet has upgraded it: use that version.",
        )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def _foreign_tables(connection: Connection) -> list[str]:
    return sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})


def _passes(error: DBAPIError, said: str) -> bool:
    """Tell whether the same may go well a little later: somebody else writes, or the server is away."""
    state = getattr(error.orig, "sqlstate", "none")
    # PostgreSQL: no connection, rolled back for another's sake, or shut down by its operator.
    away = isinstance(error, OperationalError) and (state is None or state[:2] in ("08", "40", "57"))
    return away or "database is locked" in said


@contextmanager
def plainly(engine: Engine) -> Iterator[None]:
    """Turn what the engine or the system says into a `StoreError`, without its password."""
    place = engine.url.render_as_string(hide_password=True)
    try:
        yield
    except OSError as error:
        raise StoreError(
            expected=f"a record at {place}",
            found=f"{type(error).__name__}: {error.strerror or error}",
            remedy="Look at free space, open files and the installation of this program.",
        ) from error
    except DBAPIError as error:
        said = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0][:200]
        if isinstance(error, IntegrityError):
            raise StoreError(
                expected=f"rows that belong together in {place}",
                found=said,
                remedy="Nothing was kept: what a row refers to must be known first, and a name stands once.",
            ) from error
        if error.connection_invalidated or _passes(error, said):
            raise StoreBusyError(
                expected=f"an answer of {place}",
                found=said,
                remedy="Another program is writing, or the server is away: try again.",
            ) from error
        raise StoreError(
            expected=f"a record at {place}",
            found=said,
            remedy="Check the place, its permissions and free space: differnet db check",
        ) from error
    except UnicodeEncodeError as error:
        raise StoreError(
            expected="text, as a database keeps it",
            found=ascii(error.object)[:200],
            remedy="Write it in characters that this system's encoding knows.",
        ) from error
