"""Addresses, and a service that fails."""

import contextlib
import http.server
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from busi_tune.remote import objects as objects_module
from busi_tune.remote.address import find_fault, parse_address
from busi_tune.remote.objects import Objects, StorageError
from tests.s3_server import BUCKET, Server, slow_line


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "service"),
    [
        ("s3://bucket", "bucket", "", "AWS"),
        ("s3://bucket/a/b/", "bucket", "a/b", "AWS"),
        ("s3://bucket/a?endpoint_override=host:9000&scheme=http", "bucket", "a", "host:9000"),
        ("s3://bucket/a?endpoint_override=http://host:9000", "bucket", "a", "host:9000"),
    ],
)
def test_an_address_is_read_and_written_as_it_was_meant(
    uri: str, bucket: str, prefix: str, service: str
) -> None:
    address = parse_address(uri)
    assert (address.bucket, address.prefix, address.service) == (bucket, prefix, service)
    assert parse_address(str(address)) == address
    assert parse_address(str(address.child("run"))).prefix == f"{prefix}/run".strip("/")


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("gs://bucket/a", "a folder or s3://bucket/prefix, not gs://bucket/a"),
        ("s3:///a", "a folder or s3://bucket/prefix"),
        ("s3://key:hidden@bucket/a", "must not name keys"),
        ("s3://bucket/a?secret_key=hidden", "must not name keys"),
        ("s3://bucket/a?endpoint=host", "unknown option endpoint; there are endpoint_override"),
        ("s3://bucket/../a", "must not have .. in its path"),
    ],
)
def test_what_is_wrong_with_a_storage_is_said_without_its_keys(storage: str, said: str) -> None:
    assert said in find_fault(storage)
    assert "hidden" not in find_fault(storage)
    assert find_fault(None) == find_fault("/a/folder") == find_fault("s3://bucket/a") == ""


@contextlib.contextmanager
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def closed() -> Iterator[str]:
    with silent() as address:
        pass
    yield address


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (silent, "does not answer; check endpoint_override"),
        (closed, "does not answer; check endpoint_override"),
        (refusing, "refuses the credentials, or there are none: set AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_service_that_cannot_be_used_is_named_within_seconds(
    service: "type[contextlib.AbstractContextManager[str]]",
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if service is silent:
        monkeypatch.setattr(objects_module, "ANSWER_SECONDS", 2.0)
    began = time.monotonic()
    with service() as address:
        place = Objects(parse_address(f"s3://b/a?endpoint_override={address}&scheme=http"))
        with pytest.raises(ValueError, match=f"storage s3://b/a: {address} {said}"):
            place.check()
    assert time.monotonic() - began < 20


def test_a_missing_bucket_is_named(server: Server) -> None:
    uri = server.uri("a").replace(BUCKET, "other")
    with pytest.raises(ValueError, match="has no bucket other; create it"):
        Objects(parse_address(uri)).check()
    server.objects("a").check()


def test_a_storage_that_comes_back_in_time_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(objects_module, "ANSWER_SECONDS", 1.0)
    place = Objects(parse_address(server.uri("back")), patience_seconds=60)
    with server.silent_until_warned_of():
        place.put("a", b"1")
    assert place.get("a") == b"1"
    assert "trying again for up to 60 s" in caplog.text


def test_a_storage_that_does_not_come_back_is_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "ANSWER_SECONDS", 1.0)
    server.fall_silent()
    try:
        with pytest.raises(
            StorageError, match=r"write a of .*s3://bucket/gone: .* does not answer"
        ):
            server.objects("gone").put("a", b"1")
    finally:
        server.answer_again()


def test_a_line_that_is_too_slow_is_not_taken_for_silence(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "ANSWER_SECONDS", 3.0)
    server.objects("slow").put("a", bytes(1_000_000))
    with slow_line(server.port, 50_000) as port:
        place = Objects(parse_address(server.uri("slow", port=port)))
        with pytest.raises(StorageError, match="answers, but was not done within 3 s"):
            place.get("a")


def test_an_object_that_is_written_anew_while_it_is_read_is_read_whole(server: Server) -> None:
    place, other, chance = server.objects("anew"), server.objects("anew"), random.Random(1)

    def write(number: int) -> None:
        time.sleep(chance.uniform(0, 0.02))
        other.put("a", f"{number} ".encode() * (10 + number % 7) + b"end")

    write(0)
    found = set()
    for turn in range(1, 61):
        writer = threading.Thread(target=write, args=(turn,))
        writer.start()
        found.add(place.get("a") or b"")
        writer.join()
    assert len(found) > 10, "nothing was written meanwhile"
    for content in found:
        number, *others = content.decode().split()
        assert others == [number] * (9 + int(number) % 7) + ["end"]
