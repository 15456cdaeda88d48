"""Densities of tables: files read, flows fitted to their rows, and kept in a folder that can run nothing."""

from differnet.tables.density import (
    FAMILIES,
    Column,
    Estimate,
    FitFigures,
    FlowChoice,
    TableDensity,
    fit_table,
)
from differnet.tables.folder import FlowFolderError, load_table_density, save_table_density
from differnet.tables.reading import TableError, read_table

__all__ = [
    "FAMILIES",
    "Column",
    "Estimate",
    "FitFigures",
    "FlowChoice",
    "FlowFolderError",
    "TableDensity",
    "TableError",
    "fit_table",
    "load_table_density",
    "read_table",
    "save_table_density",
]
