"""Migrations of the inspection record, run by Alembic."""
