"""Batch jobs: a queue, the place of each picture in its run, and thresholds with their reasons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("items", sa.Column("number", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE items SET number = n.number FROM (SELECT id, row_number()"
        " OVER (PARTITION BY run_id ORDER BY id) - 1 AS number FROM items) AS n WHERE n.id = items.id"
    )
    op.create_index(op.f("ix_items_run_id_number"), "items", ["run_id", "number"], unique=False)
    op.create_index(op.f("ix_items_run_id_sha256"), "items", ["run_id", "sha256"], unique=False)
    op.create_table(
        "threshold_revisions",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("calibration_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("t_review", sa.Double(), nullable=False),
        sa.Column("t_defect", sa.Double(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id", "calibration_id"],
            ["calibrations.model_id", "calibrations.calibration_id"],
            name=op.f("fk_threshold_revisions_model_id_calibration_id"),
        ),
        sa.PrimaryKeyConstraint("model_id", "calibration_id", "number", name=op.f("pk_threshold_revisions")),
    )
    op.create_table(
        "queue",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'leased', 'done', 'quarantined')", name=op.f("ck_queue_state")
        ),
        sa.CheckConstraint("(state = 'leased') = (owner IS NOT NULL)", name=op.f("ck_queue_owner")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_queue_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue")),
        sa.UniqueConstraint("run_id", "path", name=op.f("uq_queue_run_id_path")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_queue_run_id_number")),
    )
    op.create_index(
        op.f("ix_queue_run_id_state_number"), "queue", ["run_id", "state", "number"], unique=False
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("queue")
    op.drop_table("threshold_revisions")
    op.drop_index(op.f("ix_items_run_id_sha256"), table_name="items")
    op.drop_index(op.f("ix_items_run_id_number"), table_name="items")
    op.drop_column("items", "number")
