"""A server of S3's protocol on 127.0.0.1, in a process of its own that can also fall silent."""

import contextlib
import errno
import logging
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from busi_tune.remote.address import parse_address
from busi_tune.remote.objects import Objects
from tests.processes import wait_until

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


class Server:
    """A server under way, with one bucket; other hosts reach it by this machine's addresses."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def uri(self, prefix: str, address: str = "127.0.0.1", port: int = 0) -> str:
        place = f"{address}:{port or self.port}"
        return f"s3://{BUCKET}/{prefix}?endpoint_override={place}&scheme=http"

    def objects(self, prefix: str) -> Objects:
        return Objects(parse_address(self.uri(prefix)), patience_seconds=60)

    def fall_silent(self) -> None:
        """Let requests wait for an answer, as a lost network does; nothing stored is lost."""
        self._process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def silent_until_warned_of(self) -> Iterator[None]:
        """Fall silent, until a log says that the storage is tried again."""

        class Answer(logging.Handler):
            def emit(_, record: logging.LogRecord) -> None:
                self.answer_again()

        handler, logger = Answer(), logging.getLogger("busi_tune.remote.objects")
        logger.addHandler(handler)
        self.fall_silent()
        try:
            yield
        finally:
            logger.removeHandler(handler)
            self.answer_again()


def find_port(address: str = "127.0.0.1") -> int:
    """Return a free port that the system does not give to whoever asks for any."""
    while True:
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server((address, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@contextlib.contextmanager
def run_server(folder: Path) -> Iterator[Server]:
    """Run a server with credentials that this process and those it starts find."""
    from pyarrow.fs import S3FileSystem

    port = find_port()
    line = [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(port)]
    log = folder / "server.log"
    with log.open("wb") as file, pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        # No credentials of whoever runs the tests. Not by another HOME: Ray's token lies there.
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, str(folder / "none"))
        process = subprocess.Popen(line, stdout=file, stderr=file, env=dict(os.environ))
        try:
            wait_until(lambda: process.poll() is not None or answers(port), "the server")
            assert process.poll() is None, log.read_text()
            endpoint = {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http"}
            S3FileSystem(region="us-east-1", allow_bucket_creation=True, **endpoint).create_dir(
                BUCKET
            )
            yield Server(process, port)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def slow_line(port: int, bytes_per_second: float) -> Iterator[int]:
    """Give a port that leads to a server's; each connection brings so much of its answers."""

    class Line(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                there = (self.request, server, 0.0)
                threading.Thread(target=_carry, args=there, daemon=True).start()
                _carry(server, self.request, 1 / bytes_per_second)

    class Lines(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Lines(("127.0.0.1", 0), Line) as lines:
        threading.Thread(target=lines.serve_forever, daemon=True).start()
        yield lines.server_address[1]
        lines.shutdown()


def _carry(source: socket.socket, target: socket.socket, seconds_per_byte: float) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(4096):
            time.sleep(len(content) * seconds_per_byte)
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
