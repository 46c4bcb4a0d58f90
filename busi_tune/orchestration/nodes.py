"""The nodes of a cluster while a run goes on: those that join are used, those lost are noticed."""

import logging
import socket
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from busi_tune.command_line import ClusterError
from busi_tune.orchestration.cluster import Request, describe_shortage, living_nodes
from busi_tune.orchestration.demand import Demand

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often to look which nodes there are."""
ANSWER_SECONDS = 2.0
NUM_ASKED = 32
"""Nodes asked at a time."""


class Nodes:
    """Says how many trainings the cluster carries now, and which of its nodes were lost.

    Where more is to be trained than fits, an autoscaler is shown the demand, see `Demand`.
    """

    def __init__(self, request: Request, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with what the request found.

        Args:
            request: what each training takes.
            clock: gives seconds.
        """
        self._request = request
        self._clock = clock
        self._room = request.max_concurrent
        self._num_nodes = request.num_nodes
        self._could_train = clock()
        self._next_look = clock() + LOOK_SECONDS
        self._demand = Demand(request.cpus_per_worker, request.gpus_per_worker)
        self._lost: dict[str, tuple[int, str]] = {}
        self.num_losses = 0
        """How often a node was noticed to be lost; one that answers again can be so once more."""

    def room(self, wanted: int) -> int:
        """Return how many trainings fit at a time.

        Args:
            wanted: trainings not ended yet, those under way included.

        Raises:
            ClusterError: for as long as a run may wait there was no node left to train on.
        """
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look(now, wanted)
        return self._room

    def _look(self, now: float, wanted: int) -> None:
        self._note_lost(self._lost)
        request, nodes = self._request, living_nodes(without=self._lost)
        room = request.limit(request.count_fitting(nodes))
        if room:
            self._could_train = now
        elif now - self._could_train >= request.wait_seconds:
            raise ClusterError(
                f"no node that carries a training was left for {request.wait_seconds:g} s: "
                + describe_shortage(request, nodes)
            )
        if (room, len(nodes)) != (self._room, self._num_nodes):
            logger.info("%d node(s) now, up to %d training(s) at a time", len(nodes), room)
        self._room, self._num_nodes = room, len(nodes)
        if request.joined and not request.place:
            self._demand.ask(request.num_workers * max(0, request.limit(wanted) - room))

    def find_lost(self, losses_before: int) -> set[str]:
        """Ask every node whether it is there: Ray itself notices only after some time.

        Args:
            losses_before: an earlier value of `num_losses`.

        Returns:
            The addresses of the nodes that were lost since.
        """
        known = self.num_losses
        self._note_lost()
        if self.num_losses > known:  # look again before anything is given out for their places
            self._next_look = self._clock()
        return {address for number, address in self._lost.values() if number > losses_before}

    def _note_lost(self, asked: Collection[str] | None = None) -> None:
        """Note the nodes that Ray says are dead, and of those asked, by default all, the silent.

        A silent one that answers again is forgotten.
        """
        told = ray.nodes()
        nodes = [n for n in told if asked is None or n["NodeID"] in asked or not n["Alive"]]
        with ThreadPoolExecutor(NUM_ASKED) as pool:
            there = list(pool.map(lambda node: node["Alive"] and _answers(node), nodes))
        for node, is_there in zip(nodes, there, strict=True):
            name = node["NodeID"]
            if is_there:
                self._lost.pop(name, None)
            elif name not in self._lost:
                self.num_losses += 1
                self._lost[name] = (self.num_losses, node["NodeManagerAddress"])


def _answers(node: dict[str, Any]) -> bool:
    address = (node["NodeManagerAddress"], node["NodeManagerPort"])
    try:
        socket.create_connection(address, timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
