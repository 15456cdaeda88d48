"""``python -m differnet.tasks TASK``: the process of one task, started by `differnet.tasks.start`."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from differnet.records import DiffernetError
from differnet.reporting.serving import PLACE_VARIABLE
from differnet.store import Store
from differnet.tasks.working import asked_to_end, step_back, work_on

_ENDED = {"done": 0, None: 0, "failed": 1, "stopped": 130}


def main() -> int:
    """Do the task that is named, and return the exit code: 0 done, 1 failed, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m differnet.tasks", description="Do one task of a record.")
    parser.add_argument(
        "--db",
        default=os.environ.get(PLACE_VARIABLE) or "record.db",
        help=f"The record. Default: what {PLACE_VARIABLE} says, else record.db here.",
    )
    parser.add_argument("task", help="Its name in the record.")
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    step_back()
    try:
        store = Store.open(told.db)
        try:
            with asked_to_end() as ended:
                return _ENDED[work_on(store, told.task, ended)]
        finally:
            store.close()
    except DiffernetError as error:
        # Without the record there is nobody to tell but the log.
        logging.getLogger(__name__).error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
