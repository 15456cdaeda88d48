"""Tables of the inspection record, in SQL that SQLite and PostgreSQL both speak.

Times are UTC in ISO 8601 with milliseconds (`now`), so that as text they sort as they passed. What is said
once and never asked for by its content (facts of a run, reasons of a verdict) is JSON text; everything that a
page or a report filters or sorts by is a column. The migrations make these tables; a test holds both equal.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

# Wide enough for a line that runs for years; SQLite numbers rows by this type alone.
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

_BYTES = "bytes:"


class FileText(TypeDecorator[str]):
    """Text of file names, which need not be text: bytes of no encoding are kept as ``bytes:%FF``.

    Python carries such bytes in strings as lone surrogates, which no database takes.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Turn a name into what the database keeps."""
        if value is None or (value.isascii() and not value.startswith(_BYTES)):
            return value
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return _BYTES + quote_from_bytes(os.fsencode(value))
        return value if not value.startswith(_BYTES) else _BYTES + quote_from_bytes(os.fsencode(value))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """Turn it back."""
        if value is None or not value.startswith(_BYTES):
            return value
        return os.fsdecode(unquote_to_bytes(value.removeprefix(_BYTES)))


# Named alike in every engine, so that a migration can change them by name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

products = Table(
    "products",
    metadata,
    Column("name", Text, primary_key=True),
    Column("added_at", Text, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("model_id", Text, primary_key=True),
    Column("product", Text, ForeignKey("products.name"), nullable=False, index=True),
    Column("folder", FileText, nullable=False),
    Column("facts", Text, nullable=False),
    Column("added_at", Text, nullable=False),
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("model_id", Text, ForeignKey("models.model_id"), primary_key=True),
    Column("calibration_id", Text, primary_key=True),
    Column("parts", Integer, nullable=False),
    Column("scheme", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("added_at", Text, nullable=False),
)

threshold_revisions = Table(
    "threshold_revisions",
    metadata,
    Column("model_id", Text, primary_key=True),
    Column("calibration_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("t_review", Double, nullable=False),
    Column("t_defect", Double, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("made_at", Text, nullable=False),
    ForeignKeyConstraint(
        ["model_id", "calibration_id"], ["calibrations.model_id", "calibrations.calibration_id"]
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("product", Text, ForeignKey("products.name"), nullable=False),
    Column("model_id", Text, nullable=False),
    Column("calibration_id", Text, nullable=False),
    Column("threshold_revision", Integer, nullable=False),
    Column("t_review", Double, nullable=False),
    Column("t_defect", Double, nullable=False),
    Column("source", FileText, nullable=False),
    Column("folder", FileText, nullable=False),
    Column("facts", Text, nullable=False),
    Column("started_at", Text, nullable=False, index=True),
    Column("finished_at", Text),
    # Counted up with whatever is written of the run, so that who read it can ask whether it is still so.
    Column("changed", _NUMBER, nullable=False, server_default="0"),
    # Counted up beside it where nothing but words of people was written.
    Column("said", _NUMBER, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["model_id", "calibration_id"], ["calibrations.model_id", "calibrations.calibration_id"]
    ),
    Index(None, "product", "started_at"),
)

items = Table(
    "items",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.run_id"), nullable=False),
    Column("item_id", Text, nullable=False),
    # Its place in the run, from 0, whoever judged it and when.
    Column("number", Integer),
    Column("part_id", FileText, nullable=False, index=True),
    Column("view_id", FileText, nullable=False),
    Column("path", FileText, nullable=False),
    Column("sha256", Text, nullable=False, index=True),
    Column("verdict", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("label", FileText),
    Column("product", Text, nullable=False),
    Column("captured_at", Text),
    Column("processed_at", Text, nullable=False),
    Column("nll_global", Double),
    Column("nll_local", Double),
    Column("typicality_global", Double),
    Column("typicality_local", Double),
    Column("bits_per_dim_global", Double),
    Column("bits_per_dim_local", Double),
    Column("strangeness", Double),
    Column("p_value", Double),
    Column("p_value_global", Double),
    Column("p_value_local", Double),
    Column("p_value_ood", Double),
    Column("t_review", Double),
    Column("t_defect", Double),
    Column("threshold_revision", Integer, nullable=False),
    Column("heat_map_path", Text),
    Column("model_id", Text, nullable=False),
    Column("calibration_id", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("decode_ms", Double, nullable=False),
    Column("inference_ms", Double, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bit_depth", Integer, nullable=False),
    Column("quality_flags", Text, nullable=False),
    UniqueConstraint("run_id", "item_id"),
    # The same picture judged by the same model in the same run is one item, however often it is tried.
    UniqueConstraint("run_id", "path", "sha256", "model_id", "calibration_id", name="uq_items_once"),
    Index(None, "run_id", "verdict", "strangeness"),
    Index(None, "run_id", "strangeness"),
    Index(None, "run_id", "number"),
    Index(None, "run_id", "sha256"),
    # Wide, so that counts, pages and flips of all runs are found without a look at the rows, which are wider.
    Index("ix_items_latest", "processed_at", "verdict", "label", "product"),
    Index("ix_items_strangest", "strangeness", "verdict", "label", "product", "t_review"),
    Index("ix_items_in_force", "model_id", "calibration_id", "threshold_revision", "processed_at"),
)

# What a batch job has still to do, and what became of it. A lease is a promise to settle a picture in time;
# who dies breaks it, and another takes the picture.
queue = Table(
    "queue",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.run_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("path", FileText, nullable=False),
    Column("label", FileText),
    Column("state", Text, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("owner", Text),
    Column("leased_until", Text),
    Column("reason", Text, nullable=False),
    UniqueConstraint("run_id", "path"),
    UniqueConstraint("run_id", "number"),
    CheckConstraint("state IN ('waiting', 'leased', 'done', 'quarantined')", name="state"),
    CheckConstraint("(state = 'leased') = (owner IS NOT NULL)", name="owner"),
    Index(None, "run_id", "state", "number"),
)

regions = Table(
    "regions",
    metadata,
    Column("item", _NUMBER, ForeignKey("items.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("x", Integer, nullable=False),
    Column("y", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("area", Integer, nullable=False),
    Column("peak", Double, nullable=False),
    Column("p_value", Double, nullable=False),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("item", _NUMBER, ForeignKey("items.id"), nullable=False, index=True),
    Column("judgement", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("made_at", Text, nullable=False, index=True),
    CheckConstraint("judgement IN ('good', 'defect', 'unsure')", name="judgement"),
    CheckConstraint("judgement = 'defect' OR kind = ''", name="kind"),
)

# Words that were taken back: what an author said of an item at one time. Nothing said is ever removed.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("item", _NUMBER, ForeignKey("items.id"), nullable=False),
    Column("author", Text, nullable=False),
    Column("said_at", Text, nullable=False),
    Column("made_at", Text, nullable=False),
    UniqueConstraint("item", "author", "said_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("made_at", Text, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("facts", Text, nullable=False),
)

# Long work that a page asked for, done by a process of its own, which tells here how far it is.
tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("wish", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("state", Text, nullable=False),
    # Somebody wants it to end; it does so at its next step.
    Column("stop_asked", Integer, nullable=False),
    Column("made_at", Text, nullable=False, index=True),
    Column("started_at", Text),
    Column("seen_at", Text),
    Column("finished_at", Text),
    Column("owner", Text),
    Column("progress", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'stopped')", name="state"),
)

# Filters of a page that somebody gave a name.
views = Table(
    "views",
    metadata,
    Column("page", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("query", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("made_at", Text, nullable=False),
)
