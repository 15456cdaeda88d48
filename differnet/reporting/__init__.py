"""A run on disk, and what a person gets to see of it: tables, charts and one HTML report."""

from differnet.reporting.artefacts import Artefacts, RunError
from differnet.reporting.report import write_report, write_reports
from differnet.reporting.run import CalibrationFacts, Run, RunFacts, ThresholdsSet, run_facts
from differnet.reporting.run_folder import RunFolder, list_runs
from differnet.reporting.serving import dashboard_command, dashboard_environment
from differnet.reporting.stored_run import StoredRun
from differnet.reporting.tables import export_run, records_table

__all__ = [
    "Artefacts",
    "CalibrationFacts",
    "Run",
    "RunError",
    "RunFacts",
    "RunFolder",
    "StoredRun",
    "ThresholdsSet",
    "dashboard_command",
    "dashboard_environment",
    "export_run",
    "list_runs",
    "records_table",
    "run_facts",
    "write_report",
    "write_reports",
]
