"""A million items: indexes that hold all that pages and counts of many runs ask for."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_index(op.f("ix_items_processed_at"), table_name="items")
    op.create_index("ix_items_latest", "items", ["processed_at", "verdict", "label", "product"], unique=False)
    op.create_index(
        "ix_items_strangest",
        "items",
        ["strangeness", "verdict", "label", "product", "t_review"],
        unique=False,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_items_strangest", table_name="items")
    op.drop_index("ix_items_latest", table_name="items")
    op.create_index(op.f("ix_items_processed_at"), "items", ["processed_at"], unique=False)
