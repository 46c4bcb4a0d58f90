"""The page in a real browser, at the width of a desk and of a phone."""

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.config import AugmentConfig
from busi_tune.data.cache import ImageSet
from busi_tune.results.write import write_results
from tests.results.conftest import (
    SPACE,
    blank,
    make_images,
    search_for,
    write_kfold_run,
    write_search_run,
)

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
PAPER = (1032, 703)
"""A4 across, without the margins of the page's style, in CSS pixels."""
ENDINGS = ("_a_long_name", "_another_long_name", "_the_last_of_the_long_names")
MODELS = tuple(model + ending for ending in ENDINGS for model in ("unet", "report_cnn"))


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images: ImageSet = make_images()
    folder = tmp_path_factory.mktemp("report") / "kfold"
    run_dir = write_kfold_run(folder, images, ("unet", "report_cnn"), num_folds=2)
    write_results(run_dir, images)
    return run_dir / "report.html"


@pytest.fixture(scope="module")
def wide_reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of wide tables: six models of long names, and a search over 20 settings."""
    folder, images = tmp_path_factory.mktemp("wide"), make_images()
    kfold = write_kfold_run(folder / "kfold", images, ("unet", "report_cnn"), num_folds=2)
    search_for(kfold, {"kfold.models": {name: {} for name in MODELS}})
    for name in (run_directory.FOLDS, run_directory.EPOCHS, run_directory.IMAGES):
        table = pd.read_csv(kfold / name)
        copies = [table.assign(model=table["model"] + ending) for ending in ENDINGS]
        pd.concat(copies).to_csv(kfold / name, index=False)
    search = write_search_run(folder / "search", images)
    strengths = [f"augment.{field.name}" for field in fields(AugmentConfig)[2:]]
    space = SPACE | {name: {"low": 0.01, "high": 0.1} for name in strengths}
    search_for(search, {"search.space": space})
    trials = pd.read_csv(search / run_directory.TRIALS)
    trials = trials.assign(**dict.fromkeys(strengths, trials["optimizer.lr"]))
    trials.to_csv(search / run_directory.TRIALS, index=False)
    with pytest.MonkeyPatch.context() as patch:
        blank(patch)
        write_results(kfold, None)
        write_results(search, None)
    return {"kfold": kfold / "report.html", "search": search / "report.html"}


@pytest.fixture(params=SIZES)
def page(
    request: pytest.FixtureRequest, browser: "sync_api.Browser", report: Path
) -> Iterator["sync_api.Page"]:
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("requestfailed", lambda failed: errors.append(failed.url[:80]))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert not errors


def test_the_page_is_no_wider_than_the_screen(page: "sync_api.Page") -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]
    assert "leads with Dice" in page.locator("h1").inner_text()


def test_a_click_on_a_heading_sorts_by_numbers_and_a_second_turns_it(page: "sync_api.Page") -> None:
    head = page.locator("#rows th").nth(2)
    cells = page.locator("#rows tbody td:nth-child(3)")
    for descending in (True, False):
        head.click()
        values = [float(text) for text in cells.all_inner_texts()]
        assert values == sorted(values, reverse=descending)


def test_a_row_opens_its_image_and_arrows_go_on(page: "sync_api.Page") -> None:
    page.get_by_role("button", name="benign (0)", exact=True).click()
    title = page.locator("#viewer-title")
    assert title.inner_text().startswith("benign (0) · benign · Dice 0.")
    assert page.locator("#panels figcaption").all_inner_texts() == [
        "Input", "Ground truth", "Prediction", "Disagreement",
    ]  # fmt: skip
    loaded = page.evaluate(
        """async () => { const image = new Image();
        image.src = document.querySelector('#panels image').getAttribute('href');
        await image.decode(); return image.naturalWidth; }"""
    )
    assert loaded > 30
    box = page.locator("#panels path.line").first.bounding_box()
    assert box is not None and box["width"] > 2
    page.keyboard.press("ArrowRight")
    assert not title.inner_text().startswith("benign (0) ·")
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_classes_and_names_narrow_the_rows(page: "sync_api.Page") -> None:
    page.locator("#label").select_option("normal")
    assert page.locator("#shown").inner_text() == "8 images"
    page.locator("#name").fill("(2)")
    assert page.locator("#rows tbody tr:visible").count() == 1


def test_dark_and_print_have_colours_of_their_own(page: "sync_api.Page") -> None:
    def colour() -> str:
        found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return found

    page.emulate_media(color_scheme="light")
    light = colour()
    page.emulate_media(color_scheme="dark")
    assert colour() != light
    page.emulate_media(media="print", color_scheme="dark")
    assert colour() == light
    assert not page.locator("nav").is_visible()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["kfold", "search"])
def test_wide_tables_scroll_within_the_screen(
    browser: "sync_api.Browser", wide_reports: dict[str, Path], kind: str, size: str
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(wide_reports[kind].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").is_visible()
    page.close()


@pytest.mark.parametrize("kind", ["kfold", "search"])
def test_print_cuts_no_table_off(
    browser: "sync_api.Browser", wide_reports: dict[str, Path], kind: str
) -> None:
    page = browser.new_page(viewport={"width": PAPER[0], "height": PAPER[1]})
    page.emulate_media(media="print")
    page.goto(wide_reports[kind].as_uri())
    assert page.locator("table").count() > 3
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER[0]
    page.close()
