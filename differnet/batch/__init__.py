"""Batch jobs: thousands of pictures into one run of the record, by one process or by several."""

from differnet.batch.beginning import RunPlan, begin, model_folder, resume, whole_path
from differnet.batch.job import BATCH, JobError, Judge, work

__all__ = ["BATCH", "JobError", "Judge", "RunPlan", "begin", "model_folder", "resume", "whole_path", "work"]
