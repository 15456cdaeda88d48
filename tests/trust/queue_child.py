"""One process that claims and settles without judging, until it is done or killed."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from differnet.records import Record, Verdict
from differnet.store import Store
from differnet.store.queue import Claim, Queue, item_id_of


def main() -> None:
    place, name, count, lease, log = sys.argv[1:]
    queue = Queue(Store.open(place), name, timedelta(seconds=float(lease)))
    owner = f"child:{os.getpid()}"
    threading.Thread(target=hold_on, args=(queue, owner), daemon=True).start()
    with Path(log, f"{os.getpid()}.log").open("a", buffering=1, encoding="utf-8") as told:
        while True:
            asked = time.time()
            claims = queue.claim(owner, int(count))
            told.writelines(f"{claim.id} {asked} {time.time()}\n" for claim in claims)
            if claims:
                queue.settle(owner, [(claim, _record(name, claim)) for claim in claims])
            elif not queue.progress().left:
                return
            else:
                time.sleep(0.1)


def hold_on(queue: Queue, owner: str) -> None:
    while True:
        time.sleep(queue.lease.total_seconds() / 3)
        queue.renew(owner)


def _record(run_id: str, claim: Claim) -> Record:
    return Record(
        run_id=run_id,
        item_id=item_id_of(claim.path),
        part_id=claim.path,
        view_id="",
        path=claim.path,
        sha256=item_id_of(claim.path),
        verdict=Verdict.PASS,
        reasons=(f"claimed {claim.claims} times, settled by {os.getpid()}",),
        strangeness=claim.number / 7,
        model_id="m",
        calibration_id="c",
    )


if __name__ == "__main__":
    main()
