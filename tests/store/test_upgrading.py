"""The form of a store: made from nothing, recognised, upgraded, checked, copied."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

from differnet.store import (
    Asked,
    Store,
    StoreError,
    backup,
    backup_into,
    backups_in,
    check,
    connect,
    file_bytes,
    newest,
    upgrade,
    upgrading,
)
from differnet.store.connecting import writing
from differnet.store.schema import metadata
from differnet.store.upgrading import _config, differences, form
from store.conftest import known, record


def test_an_empty_place_gets_the_form_of_today(place: str) -> None:
    engine = connect(place)
    assert upgrade(engine) == newest()
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    # Migrations and tables say the same.
    assert differences(engine) == []
    assert check(engine) == []
    # Once more changes nothing.
    assert upgrade(engine) == newest()
    engine.dispose()


def test_the_form_can_be_undone_and_made_again(place: str) -> None:
    engine = connect(place)
    upgrade(engine)
    with writing(engine).begin() as connection:
        command.downgrade(_config(connection), "base")
        assert form(connection) is None
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    engine.dispose()
    known(Store.open(place)).close()


def test_a_newer_form_is_left_alone(place: str) -> None:
    known(Store.open(place)).close()
    engine = connect(place)
    with writing(engine).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for ask in (lambda: Store.open(place), lambda: upgrade(engine), lambda: check(engine)):
        with pytest.raises(StoreError, match="form 9999"):
            ask()
    engine.dispose()


def test_an_older_form_asks_to_be_upgraded(place: str) -> None:
    engine = connect(place)
    upgrade(engine)
    with writing(engine).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    # No form is older than the first yet: one that was is played.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrading, "_require_known", lambda found: None)
        with pytest.raises(StoreError, match=r"form 0000\. Run: differnet db upgrade"):
            Store.open(place)
    engine.dispose()


def test_tables_without_their_form_are_left_alone(place: str) -> None:
    engine = connect(place)
    upgrade(engine)
    with writing(engine).begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(StoreError, match="other tables: audit"):
        Store.open(place)
    engine.dispose()


def test_somebody_elses_database_is_left_alone(place: str) -> None:
    engine = connect(place)
    with writing(engine).begin() as connection:
        connection.execute(text("CREATE TABLE invoices (id INTEGER)"))
    with pytest.raises(StoreError, match="invoices"):
        Store.open(place)
    assert inspect(engine).get_table_names() == ["invoices"]
    engine.dispose()


def test_a_file_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    engine = connect(tmp_path / "record.db")
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    # 2 is FULL.
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    engine.dispose()


def test_check_finds_damaged_pages_and_lost_rows(tmp_path: Path) -> None:
    place = tmp_path / "record.db"
    store = known(Store.open(place))
    store.add_items([record(i) for i in range(300)])
    assert check(store.engine) == []
    store.close()
    with sqlite3.connect(place) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("DELETE FROM runs")
        raw.execute("DROP INDEX ix_items_part_id")
    raw.close()
    engine = connect(place)
    wrong = check(engine)
    assert any(words.startswith("rows: items 1 refers to nothing in runs") for words in wrong)
    assert any("ix_items_part_id" in words for words in wrong)
    engine.dispose()
    blob = bytearray(place.read_bytes())
    for start in range(20 * 4096, len(blob), 4096):
        blob[start + 100 : start + 200] = b"\xff" * 100
    place.write_bytes(blob)
    try:
        damaged = check(connect(place))
    except StoreError as error:
        damaged = [str(error)]
    assert any("pages:" in words or "malformed" in words for words in damaged)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_what_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "record.db"
    place.write_bytes(content)
    with pytest.raises(StoreError, match=r"expected a record at sqlite:///"):
        Store.open(place)
    assert place.read_bytes() == content


def test_a_backup_is_one_file_that_holds_it_all(tmp_path: Path) -> None:
    store = known(Store.open(tmp_path / "record.db"))
    kept = [record(i) for i in range(50)]
    store.add_items(kept)
    copy = backup(store.engine, tmp_path / "copy.db")
    store.add_items([record(50)])
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "copy"))) == ["copy.db"]
    again = Store.open(copy)
    assert again.items(Asked()) == kept
    assert check(again.engine) == []
    with pytest.raises(StoreError, match="overwrites nothing"):
        backup(store.engine, copy)
    with pytest.raises(StoreError, match="to write"):
        backup(store.engine, tmp_path / "nowhere" / "copy.db")
    again.close()
    store.close()


def test_backups_of_a_folder_are_found_the_newest_first(tmp_path: Path) -> None:
    store = known(Store.open(tmp_path / "record.db"))
    assert backups_in(tmp_path / "backups") == []
    first = backup_into(store.engine, tmp_path / "backups" / "of line 3")
    older = first.with_name("record-20200101-000000.db")
    older.write_bytes(first.read_bytes())
    (first.parent / "notes.txt").write_text("x")
    assert backups_in(first.parent) == [first, older]
    assert Store.open(first, read_only=True).run("monday").run_id == "monday"
    # From a record that is opened to read only too.
    reading = Store.open(tmp_path / "record.db", read_only=True)
    assert backup_into(reading.engine, tmp_path / "elsewhere").is_file()
    reading.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="to write into"):
        backup_into(store.engine, tmp_path / "file" / "backups")
    store.close()


def test_the_size_of_a_record_counts_its_journal(place: str, tmp_path: Path) -> None:
    store = known(Store.open(place))
    store.add_items([record(i) for i in range(50)])
    size = file_bytes(store.engine)
    if store.engine.dialect.name == "sqlite":
        assert size == sum((tmp_path / name).stat().st_size for name in ("record.db", "record.db-wal"))
    else:
        assert size is None
    store.close()


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("mysql://user:secret@host/db", "mysql://user:\\*\\*\\*@host/db"),
        ("sqlite://", "in memory"),
        ("://", "cannot be read"),
        ("oracle+nothing://x", "oracle"),
    ],
)
def test_other_engines_are_refused_without_telling_passwords(place: str, found: str) -> None:
    with pytest.raises(StoreError, match=found) as told:
        connect(place)
    assert "secret" not in str(told.value)


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="expected an answer of postgresql") as told:
        Store.open("postgresql://user:secret@127.0.0.1:1/record")
    assert "secret" not in str(told.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        Store.open(tmp_path / "nowhere" / "record.db")
