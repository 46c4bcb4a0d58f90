from collections.abc import Iterator

import pytest

from tests.processes import end_what_is_left


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """End the processes of a test that failed."""
    yield
    end_what_is_left()
