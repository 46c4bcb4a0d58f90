"""Networks of clusters that tests make side by side, and of tests that were killed."""

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.nodes import Network


@pytest.fixture(autouse=True)
def skip_without_networks() -> None:
    network = Network()
    network.remove()
    if not network.is_real:
        pytest.skip("networks need root and ip")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def test_no_two_networks_are_the_same() -> None:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        networks = list(threads.map(lambda _: Network(), range(8)))
        for network in networks:
            stack.callback(network.remove)
        assert len({network.place_head().address for network in networks}) == 8


def test_what_a_killed_process_left_is_removed_and_no_more() -> None:
    with subprocess.Popen(["true"]) as ended, contextlib.ExitStack() as stack:
        ended.wait()
        left = f"bt{ended.pid}x0"
        ip("link", "add", left, "type", "bridge")
        ip("netns", "add", f"{left}n2")
        ip("link", "add", f"{left}n2", "type", "veth", "peer", "name", "eth0", "netns", f"{left}n2")
        living = Network()
        stack.callback(living.remove)
        there = living.add()
        other = Network()
        stack.callback(other.remove)
        assert left not in ip("link") + ip("netns")
        assert there.link in ip("link") and there.link in ip("netns")
