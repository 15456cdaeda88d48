"""A run on disk, and what a person gets to see of it: tables, charts and one HTML report."""

from differnet.reporting.report import write_report
from differnet.reporting.run_folder import CalibrationFacts, RunError, RunFacts, RunFolder, list_runs
from differnet.reporting.serving import dashboard_command
from differnet.reporting.tables import export_run, records_table

__all__ = [
    "CalibrationFacts",
    "RunError",
    "RunFacts",
    "RunFolder",
    "dashboard_command",
    "export_run",
    "list_runs",
    "records_table",
    "write_report",
]
