"""Words that are taken back, and runs that tell whether anything but words was written of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("runs", sa.Column("said", number, server_default="0", nullable=False))
    op.create_table(
        "withdrawals",
        sa.Column("id", number, nullable=False),
        sa.Column("item", number, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("said_at", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name=op.f("fk_withdrawals_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawals")),
        sa.UniqueConstraint("item", "author", "said_at", name=op.f("uq_withdrawals_item_author_said_at")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("withdrawals")
    op.drop_column("runs", "said")
