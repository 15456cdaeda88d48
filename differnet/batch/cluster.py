"""The same work on a Ray cluster: each actor loads the model once and works on the run's queue.

Ray starts actors and starts them anew where they die; what is to be done, by whom, and what came of it stays
in the record, so that a result is kept exactly once whatever becomes of an actor.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from differnet.records import DiffernetError
from differnet.store.queue import Progress, Queue

_PATIENCE = 0.5
# Of an actor that dies again and again something is wrong that starting it anew does not mend.
_MOST_DEATHS = 20


class ClusterError(DiffernetError):
    """Raised when a cluster cannot be reached, or cannot do the work."""


def work_on_ray(
    run: Queue,
    model: Path,
    folder: Path,
    place: str,
    *,
    workers: int,
    decoders: int | None = None,
    address: str | None = None,
    device: str = "auto",
    runtime: str = "auto",
    told: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Work on a run with actors of a Ray cluster until nothing is left, or until it shall stop.

    Pictures and the run's folder have to be where this machine has them, on a shared drive where the cluster
    has several machines; the model travels.

    Args:
        run: The run's queue.
        model: Folder of its model.
        folder: Of the run, for heat maps and previews.
        place: Of the record; a file serves one machine, several need PostgreSQL.
        workers: Actors; each loads the model once.
        decoders: Processes that decode, for each of them; ``None`` for as many as there are processors.
        address: Of the cluster; ``None`` for one on this machine, which ends with the work.
        device: Where torch judges; any but ``auto`` asks for torch.
        runtime: That the model is run by; see `differnet.runtime.choose_runtime`.
        told: Called with the run's progress.
        stop: Asked twice a second.

    Returns:
        The run's progress at the end.

    Raises:
        ClusterError: Ray is not installed or not reached, a file is to serve several machines, or actors die
            again and again. What was acknowledged stands.
    """
    ray = _ray()
    # Actors run in another folder than this process.
    place = place if "://" in place else str(Path(place).absolute())
    # A cluster that somebody else started goes on when this is done.
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    try:
        _require_shared(ray, place)
        # With what it was exported to: an actor takes the fastest then, of those its machine has.
        found = sorted(path for path in model.rglob("*") if path.is_file())
        members = {path.relative_to(model).as_posix(): path.read_bytes() for path in found}
        bundle = ray.put(members)
        # Two threads an actor: one works, the other hears that it shall stop.
        actor = ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=2)(_Actor)
        crew = [
            actor.remote(run.run_id, place, str(folder), decoders, (device, runtime)) for _ in range(workers)
        ]
        return _watch(ray, run, crew, bundle, told, stop)
    finally:
        if own:
            ray.shutdown()


def _watch(
    ray: Any,
    run: Queue,
    crew: list[Any],
    bundle: Any,
    told: Callable[[Progress], None] | None,
    stop: Callable[[], bool],
) -> Progress:
    # The model goes with the work: an actor that is begun anew has to be handed it once more.
    working = {actor.work.remote(bundle): actor for actor in crew}
    deaths = 0
    stopping = False
    while working:
        if stop() and not stopping:
            stopping = True
            for actor in working.values():
                actor.stop.remote()
        done, _ = ray.wait(list(working), timeout=_PATIENCE)
        for task in done:
            actor = working.pop(task)
            try:
                ray.get(task)
            except ray.exceptions.RayActorError as error:
                deaths += 1
                if deaths > _MOST_DEATHS:
                    raise ClusterError(
                        expected="actors that live",
                        found=f"{deaths} that died, the last of {str(error).splitlines()[0][:200]}",
                        remedy="Look into the cluster's logs for memory and crashes, then resume the run.",
                    ) from error
                if not stopping:
                    # Ray has begun it anew; what it had claimed ends by itself.
                    working[actor.work.remote(bundle)] = actor
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, DiffernetError) else error from None
        if told is not None:
            told(run.progress())
    run.finish()
    return run.progress()


class _Actor:
    """One process of a cluster, with the model and a connection to the record of its own."""

    def __init__(
        self, run_id: str, place: str, folder: str, decoders: int | None, judged_by: tuple[str, str]
    ) -> None:
        self._run_id = run_id
        self._place = place
        self._folder = Path(folder)
        self._decoders = decoders
        self._device, self._runtime = judged_by
        self._stopping = False

    def work(self, members: dict[str, bytes]) -> None:
        """Work until nothing is left, or until it shall stop.

        Args:
            members: Files of the model, by their paths in its folder.
        """
        from differnet.batch.beginning import resume
        from differnet.batch.job import work
        from differnet.runtime import load_fastest
        from differnet.store import Store

        # Windows lets nobody delete a file that a runtime has mapped.
        with tempfile.TemporaryDirectory(prefix="differnet-", ignore_cleanup_errors=True) as unpacked:
            for name, content in members.items():
                path = Path(unpacked) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            judge = load_fastest(Path(unpacked), self._device, self._runtime)
        store = Store.open(self._place)
        try:
            queue, rule = resume(store, self._run_id, judge), judge.settings.reading
            work(queue, judge, rule, self._folder, decoders=self._decoders, stop=lambda: self._stopping)
        finally:
            store.close()

    def stop(self) -> None:
        """End the current step."""
        self._stopping = True


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ClusterError(
            expected="Ray, for --engine ray",
            found="that it is not installed",
            remedy="pip install 'differnet[ray]'",
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    # Nothing leaves the machine.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            # Without an address Ray would join whatever cluster was begun on this machine last.
            address=address or "local",
            include_dashboard=False if address is None else None,
            configure_logging=False,
            log_to_driver=False,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            expected="a Ray cluster" + (f" at {address}" if address else " on this machine"),
            found=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
            remedy="Start one with `ray start --head`, and name its address: --address HOST:6379.",
        ) from error


def _require_shared(ray: Any, place: str) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1 and not place.startswith("postgresql"):
        raise ClusterError(
            expected=f"a record that the cluster's {len(nodes)} machines share",
            found=f"a file, {place}",
            remedy="Keep the record in PostgreSQL: --db postgresql://user@host/database.",
        )
