"""The network on which ranks meet."""

import os
from types import SimpleNamespace

import psutil
import pytest
import ray

from busi_tune.orchestration.ranks import RanksConfig, name_network
from busi_tune.training.loop import RANKS_WAIT_SECONDS

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"lo": ["127.0.0.1", "::1"], "eth0": ["fe80::1", "10.0.0.7"], "eth1": ["10.1.0.7"]}
    named = {
        name: [SimpleNamespace(address=address) for address in addresses]
        for name, addresses in places.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: named)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")


@pytest.mark.parametrize(("address", "name"), [("10.0.0.7", "eth0"), ("10.9.0.1", None)])
def test_gloo_gets_the_network_of_the_nodes_address(
    monkeypatch: pytest.MonkeyPatch, address: str, name: str | None
) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: address)
    name_network()
    assert os.environ.get("GLOO_SOCKET_IFNAME") == name


def test_what_a_user_has_named_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    name_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth1"


def test_the_first_rank_waits_for_its_folder_no_longer_than_the_others_wait_for_it() -> None:
    assert RanksConfig().timeout_s >= RANKS_WAIT_SECONDS + 300
