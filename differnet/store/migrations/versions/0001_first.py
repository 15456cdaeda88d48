"""Products, models, calibrations, runs, items, regions, reviews, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_made_at"), "audit", ["made_at"], unique=False)

    op.create_table(
        "products",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("added_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_products")),
    )
    op.create_table(
        "models",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("added_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["product"], ["products.name"], name=op.f("fk_models_product")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_models")),
    )
    op.create_index(op.f("ix_models_product"), "models", ["product"], unique=False)

    op.create_table(
        "calibrations",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("calibration_id", sa.Text(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("added_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_calibrations_model_id")),
        sa.PrimaryKeyConstraint("model_id", "calibration_id", name=op.f("pk_calibrations")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("calibration_id", sa.Text(), nullable=False),
        sa.Column("threshold_revision", sa.Integer(), nullable=False),
        sa.Column("t_review", sa.Double(), nullable=False),
        sa.Column("t_defect", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_id", "calibration_id"],
            ["calibrations.model_id", "calibrations.calibration_id"],
            name=op.f("fk_runs_model_id_calibration_id"),
        ),
        sa.ForeignKeyConstraint(["product"], ["products.name"], name=op.f("fk_runs_product")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_product_started_at"), "runs", ["product", "started_at"], unique=False)
    op.create_index(op.f("ix_runs_started_at"), "runs", ["started_at"], unique=False)

    op.create_table(
        "items",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("view_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("captured_at", sa.Text(), nullable=True),
        sa.Column("processed_at", sa.Text(), nullable=False),
        sa.Column("nll_global", sa.Double(), nullable=True),
        sa.Column("nll_local", sa.Double(), nullable=True),
        sa.Column("typicality_global", sa.Double(), nullable=True),
        sa.Column("typicality_local", sa.Double(), nullable=True),
        sa.Column("bits_per_dim_global", sa.Double(), nullable=True),
        sa.Column("bits_per_dim_local", sa.Double(), nullable=True),
        sa.Column("strangeness", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("p_value_global", sa.Double(), nullable=True),
        sa.Column("p_value_local", sa.Double(), nullable=True),
        sa.Column("p_value_ood", sa.Double(), nullable=True),
        sa.Column("t_review", sa.Double(), nullable=True),
        sa.Column("t_defect", sa.Double(), nullable=True),
        sa.Column("threshold_revision", sa.Integer(), nullable=False),
        sa.Column("heat_map_path", sa.Text(), nullable=True),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("calibration_id", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("decode_ms", sa.Double(), nullable=False),
        sa.Column("inference_ms", sa.Double(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("bit_depth", sa.Integer(), nullable=False),
        sa.Column("quality_flags", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_items_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
        sa.UniqueConstraint("run_id", "item_id", name=op.f("uq_items_run_id_item_id")),
        sa.UniqueConstraint("run_id", "path", "sha256", "model_id", "calibration_id", name="uq_items_once"),
    )
    op.create_index(
        "ix_items_in_force",
        "items",
        ["model_id", "calibration_id", "threshold_revision", "processed_at"],
        unique=False,
    )
    op.create_index(op.f("ix_items_part_id"), "items", ["part_id"], unique=False)
    op.create_index(op.f("ix_items_processed_at"), "items", ["processed_at"], unique=False)
    op.create_index(op.f("ix_items_run_id_strangeness"), "items", ["run_id", "strangeness"], unique=False)
    op.create_index(
        op.f("ix_items_run_id_verdict_strangeness"),
        "items",
        ["run_id", "verdict", "strangeness"],
        unique=False,
    )
    op.create_index(op.f("ix_items_sha256"), "items", ["sha256"], unique=False)

    op.create_table(
        "regions",
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("x", sa.Integer(), nullable=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("area", sa.Integer(), nullable=False),
        sa.Column("peak", sa.Double(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name=op.f("fk_regions_item")),
        sa.PrimaryKeyConstraint("item", "number", name=op.f("pk_regions")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("item", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("judgement", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.CheckConstraint("judgement = 'defect' OR kind = ''", name=op.f("ck_reviews_kind")),
        sa.CheckConstraint("judgement IN ('good', 'defect', 'unsure')", name=op.f("ck_reviews_judgement")),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name=op.f("fk_reviews_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_item"), "reviews", ["item"], unique=False)
    op.create_index(op.f("ix_reviews_made_at"), "reviews", ["made_at"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f("ix_reviews_made_at"), "reviews")
    op.drop_index(op.f("ix_reviews_item"), "reviews")

    op.drop_table("reviews")
    op.drop_table("regions")
    op.drop_index(op.f("ix_items_sha256"), "items")
    op.drop_index(op.f("ix_items_run_id_verdict_strangeness"), "items")
    op.drop_index(op.f("ix_items_run_id_strangeness"), "items")
    op.drop_index(op.f("ix_items_processed_at"), "items")
    op.drop_index(op.f("ix_items_part_id"), "items")
    op.drop_index("ix_items_in_force", "items")

    op.drop_table("items")
    op.drop_index(op.f("ix_runs_started_at"), "runs")
    op.drop_index(op.f("ix_runs_product_started_at"), "runs")

    op.drop_table("runs")
    op.drop_table("calibrations")
    op.drop_index(op.f("ix_models_product"), "models")

    op.drop_table("models")
    op.drop_table("products")
    op.drop_index(op.f("ix_audit_made_at"), "audit")

    op.drop_table("audit")
