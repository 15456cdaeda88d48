"""Training that several processes share, on one machine or more, as torchrun starts them.

Each process looks at its share of the pictures, batch by batch, and learns its share of the densities; what
it found goes to all others, so that every one of them ends with the same detector, which is also the one that
a single process makes. Messages go over gloo, between processors: they are features and weights, small beside
what it takes to make them.

    torchrun --nproc-per-node 2 -m differnet train DATA --out MODEL
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from differnet.records import DiffernetError

Found = TypeVar("Found")
Item = TypeVar("Item")


class TeamError(DiffernetError):
    """Processes that were not started as they have to be to work together."""


@dataclass(frozen=True)
class Team:
    """Who works together, and who of them this process is.

    Attributes:
        rank: Of this process, from 0.
        size: Processes in all.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """Return the team that this process has joined, or one of itself alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return every item of which the number falls to this process."""
        return list(items[self.rank :: self.size])

    def exchanged(self, own: Found | None) -> list[Found]:
        """Return what every process found that found something, in the order of their ranks.

        All of them have to call it.
        """
        found: list[Found | None] = [own]
        if self.size > 1:
            found *= self.size
            distributed.all_gather_object(found, own)
        return [each for each in found if each is not None]

    def merged(self, own: Sequence[Found]) -> list[Found]:
        """Put the results of every process's `share` back in order. All of them have to call it."""
        shares = self.exchanged(list(own))
        total = sum(map(len, shares))
        return [shares[number % self.size][number // self.size] for number in range(total)]


@contextmanager
def joined_team() -> Iterator[Team]:
    """Join the processes that torchrun started beside this one, if it did; each takes a GPU if there are any.

    Raises:
        TeamError: torchrun's variables are there, and make no sense.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        yield Team()
        return
    if not distributed.is_available():
        raise TeamError(
            expected="a torch that works in several processes",
            found="one that was built without torch.distributed",
            remedy="Start differnet without torchrun.",
        )
    try:
        distributed.init_process_group("gloo")
    except (ValueError, RuntimeError) as error:
        raise TeamError(
            expected="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them",
            found=next(iter(str(error).splitlines()), type(error).__name__),
            remedy="Start differnet with torchrun, or without WORLD_SIZE.",
        ) from error
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        yield Team.current()
    finally:
        distributed.destroy_process_group()
