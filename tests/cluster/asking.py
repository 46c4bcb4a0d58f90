"""Requests from one machine to another, as a stranger or with the token."""

import json
import re
import sys
from collections.abc import Sequence

from tests.cluster.machines import Machine

_HTTP = """
import json, sys, urllib.error, urllib.request
url, token, body = json.loads(sys.argv[1])
headers = {"Authorization": "Bearer " + token} if token else {}
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request(url, data=data, headers=headers)
try:
    with urllib.request.urlopen(request, timeout=120) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([None, str(error)]))
"""

_GRPC = """
import json, sys, grpc
for address, method, token in json.loads(sys.argv[1]):
    metadata = [("authorization", "Bearer " + token)] if token else []
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=120, metadata=metadata)
            print("STATUS OK")
        except grpc.RpcError as error:
            print("STATUS", error.code().name)
"""


def ask(machine: Machine, url: str, token: str = "", body: object = None) -> tuple[int | None, str]:
    """Send a request from a machine, a POST where there is a body.

    Returns:
        The status, None where nobody answers, and the text.
    """
    done = machine.run([sys.executable, "-c", _HTTP, json.dumps([url, token, body])], seconds=300)
    status, text = json.loads(done.stdout.splitlines()[-1])
    return status, text


def call(machine: Machine, requests: Sequence[tuple[str, str, str]]) -> list[str]:
    """Call gRPC methods from a machine, each with an empty request.

    Args:
        machine: whence.
        requests: an address, a method and a token each.

    Returns:
        The name of each status, UNAUTHENTICATED where a token is missing.
    """
    line = [sys.executable, "-c", _GRPC, json.dumps(requests)]
    said = machine.run(line, seconds=600).stdout
    statuses = re.findall(r"^STATUS (\w+)$", said, re.MULTILINE)
    assert len(statuses) == len(requests), said
    return statuses
