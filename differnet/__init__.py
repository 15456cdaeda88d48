"""Anomaly detection on normalizing flows, with verdicts whose error rate is stated."""

__version__ = "0.1.0"
