"""`ray start` of a head without Ray's client server.

    python -m busi_tune.orchestration.without_client ray start --head --port=6379 ...

`ray start --head` always starts that server, on the node's own address (port 10001): no flag binds
it to 127.0.0.1 alone and none leaves it out. Nothing here connects to `ray://`, jobs are submitted
through the dashboard's port, so a head that is started this way has one open port less.
"""

import sys

from ray.scripts import scripts

SWITCH = "get_ray_client_dependency_error"
"""What Ray asks whether the client server can be started (`ray/scripts/scripts.py`, Ray 2.60)."""


def main(arguments: list[str]) -> None:
    """Run a command of Ray's command line as if the client server could not be had.

    Args:
        arguments: `ray` and what follows it on the command line.

    Raises:
        RuntimeError: this version of Ray asks in another way.
    """
    if not callable(getattr(scripts, SWITCH, None)):
        raise RuntimeError(
            f"the installed Ray has no ray.scripts.scripts.{SWITCH}: use the version of "
            "constraints.txt, or plain `ray start`, whose client server asks for the token too"
        )
    setattr(scripts, SWITCH, lambda: ImportError("the client server is not wanted"))
    scripts.cli.main(args=arguments[1:], prog_name=arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])
