"""Ray's dashboard in a real browser: who watches a run recognises its trainings."""

import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.watched_run import RUN, Watched, watch

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium"),
]
PAGE_MILLISECONDS = 120_000
"""Within which a page must show what is looked for; on an idle machine it takes a few seconds."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run under way."""
    with watch(tmp_path_factory.mktemp("watched")) as found:
        yield found


@pytest.fixture(scope="module")
def context() -> Iterator["sync_api.BrowserContext"]:
    """A browser that knows no token yet."""
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = launched.new_context(viewport={"width": 1600, "height": 900})
        context.set_default_timeout(PAGE_MILLISECONDS)
        yield context
        launched.close()


@pytest.fixture(scope="module")
def page(context: "sync_api.BrowserContext", watched: Watched) -> "sync_api.Page":
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
    context: "sync_api.BrowserContext", watched: Watched
) -> None:
    for path in ("/api/jobs/", "/logical/actors", "/nodes?view=summary"):
        assert context.browser is not None
        stranger = context.browser.new_context()
        assert stranger.request.get(watched.dashboard + path).status == 401
        wrong = {"Authorization": "Bearer " + "0" * 64}
        assert stranger.request.get(watched.dashboard + path, headers=wrong).status == 403
        own = {"Authorization": f"Bearer {watched.token}"}
        assert stranger.request.get(watched.dashboard + path, headers=own).status == 200
        stranger.close()


def test_the_page_of_jobs_names_the_run_and_its_command(
    page: "sync_api.Page", watched: Watched
) -> None:
    page.goto(f"{watched.dashboard}/#/jobs")
    row = page.locator("tr", has_text="-m tests.cluster.watched_run")
    row.wait_for()
    assert RUN in row.inner_text().split()


def test_the_page_of_actors_names_the_training(page: "sync_api.Page", watched: Watched) -> None:
    page.goto(f"{watched.dashboard}/#/actors")
    row = page.locator("tr", has_text="trial 0 and later ones")
    row.wait_for()
    assert "Training" in row.inner_text().split()
