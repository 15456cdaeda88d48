"""One process that works on a run until it is done or killed."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from differnet.batch import RunPlan, begin, work
from differnet.detection import Detector
from differnet.reporting import run_facts
from differnet.store import Store
from differnet.store.queue import Queue, Wanted


def main() -> None:
    place, name, model, pictures, folder, lease = sys.argv[1:]
    store = Store.open(place)
    detector = Detector.load(Path(model), device="cpu")
    facts = run_facts(detector.facts(), "a soak run")
    plan = RunPlan(
        type(facts)(**{**vars(facts), "run_id": name}),
        Path(model),
        Path(folder),
        [Wanted(str(path), "good") for path in sorted(Path(pictures).iterdir())],
    )
    # As a person would: the same command again, whatever had been reached before.
    begin(store, detector, plan)
    queue = Queue(store, name, timedelta(seconds=float(lease)))
    work(queue, detector, detector.settings.reading, Path(folder))


if __name__ == "__main__":
    main()
