"""The tests of batch jobs and of durable files are shown to fail where a line is wrong."""

from __future__ import annotations

from functools import partial

import pytest
import test_durable as files
from mutants.planting import Fault, fails, plant

from batch import test_job as jobs
from differnet import durable
from differnet.batch import job

refused = partial(jobs.test_a_disk_that_refuses_is_told_and_loses_nothing, after=0)
step_by_step = partial(files.test_each_of_several_files_is_old_or_new_at_every_step_that_fails, errno=28)

FAULTS = [
    # Verdicts before their files.
    Fault(
        job._Settling,
        "_settle",
        "self._artefacts.keep(files)",
        "self._run.settle(self._owner, settled); self._artefacts.keep(files)",
        refused,
    ),
    Fault(
        job._Settling,
        "_settle",
        "self._artefacts.keep(files)",
        "pass",
        jobs.test_every_judged_picture_has_its_heat_map_and_preview,
    ),
    Fault(
        job._Judging,
        "_one_by_one",
        "2 * failed > len(sources)",
        "False",
        jobs.test_a_detector_that_fails_on_most_pictures_ends_the_job,
    ),
    Fault(
        job._Judging,
        "judged",
        "self._one_by_one([source for _, source in self._inside], error)",
        "[]",
        jobs.test_a_picture_that_cannot_be_judged_is_put_aside_and_the_others_are_not,
    ),
    Fault(
        job,
        "_patiently",
        "not error.passing",
        "True",
        jobs.test_a_record_that_is_away_for_a_moment_is_waited_for,
    ),
    Fault(
        job,
        "_require_drive",
        "not gone",
        "True",
        jobs.test_a_drive_that_is_not_connected_puts_nothing_aside,
    ),
    Fault(
        job._Ahead,
        "_held",
        "self._largest",
        "0",
        jobs.test_pictures_are_decoded_ahead_only_as_far_as_memory_goes,
    ),
    Fault(job, "_record_of", "label=claim.label", "label=None", jobs.test_a_job_gives_what_inspecting_gives),
    Fault(durable, "write_files", "os.fsync(stream.fileno())", "None", step_by_step),
    Fault(durable, "write_files", "written.unlink(missing_ok=True)", "None", step_by_step),
    Fault(durable, "write_files", "sync_folder(parent)", "None", step_by_step),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught(
    fault: Fault, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("line")
    plant(fault, monkeypatch)
    assert fails(fault, request), f"{fault} was not noticed"
