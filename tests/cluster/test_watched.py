"""A run that is watched: what Prometheus reads of it, and Ray's dashboard in a real browser."""

import contextlib
import shutil
import time
import urllib.request
from collections.abc import Iterator, Sequence

import pytest
from playwright import sync_api
from prometheus_client.parser import text_string_to_metric_families

from busi_tune.orchestration.metrics import COUNTERS, GAUGES
from tests.cluster.watched_run import REPORT_SECONDS, RUN, Watched, watch
from tests.processes import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
EXPORTED = {f"ray_{name}" for name in GAUGES} | {f"ray_{name}_total" for name in COUNTERS}
EXPECTED = {
    ("ray_busi_tune_trainings", "running"): 1.0,
    ("ray_busi_tune_trainings", "finished"): 1.0,
    ("ray_busi_tune_trainings", "pruned"): 1.0,
    ("ray_busi_tune_trainings", "failed"): 1.0,
    ("ray_busi_tune_best_value", ""): 0.75,
    ("ray_busi_tune_images_per_second", ""): 25.0,
    ("ray_busi_tune_epochs_total", ""): 3.0 + 1 + 1 + 1,
}
"""The values by name and state."""
PAGE_MILLISECONDS = 120_000
"""Within which a page must show what is looked for; on an idle machine it takes a few seconds."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run under way."""
    with watch(tmp_path_factory.mktemp("watched")) as found:
        yield found


def scrape(addresses: Sequence[str]) -> dict[tuple[str, str], float]:
    """Read the run's metrics off the nodes, as Prometheus does."""
    found = {}
    for address in addresses:
        with urllib.request.urlopen(address, timeout=30) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("run") == RUN:
                    found[sample.name, sample.labels.get("state", "")] = sample.value
    return found


def test_prometheus_finds_the_runs_numbers_on_the_node(watched: Watched) -> None:
    assert {name for name, _ in EXPECTED} == EXPORTED
    found: list[object] = []

    def has_all() -> bool:
        found.clear()
        with contextlib.suppress(OSError):  # slow to answer
            found[:] = [scrape(watched.metrics)]
        return found == [EXPECTED]

    wait_until(has_all, "all numbers", 120, every=0.2)
    # Ray forgets a gauge that it is not told again, though nothing has happened in the run since;
    # one that is told late, on a busy machine, comes back.
    time.sleep(4 * REPORT_SECONDS)
    wait_until(has_all, "all numbers once more", 120, every=0.2)


@pytest.fixture(scope="module")
def context() -> Iterator[sync_api.BrowserContext]:
    """A browser that knows no token yet."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = launched.new_context(viewport={"width": 1600, "height": 900})
        context.set_default_timeout(PAGE_MILLISECONDS)
        yield context
        launched.close()


@pytest.fixture(scope="module")
def page(context: sync_api.BrowserContext, watched: Watched) -> sync_api.Page:
    """The dashboard after its question for the token was answered, as a person does."""
    opened = context.new_page()
    opened.goto(watched.dashboard)
    field = opened.locator("input[type=password]")
    field.wait_for()
    assert "trial" not in opened.locator("body").inner_text()
    field.fill(watched.token)
    field.press("Enter")
    field.wait_for(state="detached")
    return opened


def test_the_dashboard_asks_for_the_token(
    context: sync_api.BrowserContext, watched: Watched
) -> None:
    for path in ("/api/jobs/", "/logical/actors", "/nodes?view=summary"):
        assert context.browser is not None
        stranger = context.browser.new_context()
        for token, expected in (("", 401), ("0" * 64, 403), (watched.token, 200)):
            answer = stranger.request.get(
                watched.dashboard + path,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=PAGE_MILLISECONDS,
            )
            assert answer.status == expected
        stranger.close()


def test_the_page_of_jobs_names_the_run_and_its_command(
    page: sync_api.Page, watched: Watched
) -> None:
    page.goto(f"{watched.dashboard}/#/jobs")
    row = page.locator("tr", has_text="-m tests.cluster.watched_run")
    row.wait_for()
    assert RUN in row.inner_text().split()


def test_the_page_of_actors_names_the_training(page: sync_api.Page, watched: Watched) -> None:
    page.goto(f"{watched.dashboard}/#/actors")
    row = page.locator("tr", has_text="trial 0 and later ones")
    row.wait_for()
    assert "Training" in row.inner_text().split()
