import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.flags import load_settings
from busi_tune.results.html.headline import describe_kfold, describe_search
from busi_tune.results.html.sections import FIGURES, KFOLD, SEARCH
from busi_tune.results.marks import CHOSEN
from busi_tune.results.write import write_results
from busi_tune.settings import override, to_yaml
from tests.results.conftest import blank, read_search, write_kfold_run, write_refits

pytestmark = pytest.mark.usefixtures("blank_figures")


class Elements(HTMLParser):
    """Collects the elements of a page and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def write(run_dir: Path, images: ImageSet | None) -> str:
    write_results(run_dir, images)
    return (run_dir / run_directory.REPORT).read_text()


@pytest.fixture(scope="module")
def kfold_page(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> str:
    """The page of a cross-validation, made once for all who only read it."""
    folder = write_kfold_run(
        tmp_path_factory.mktemp("page") / "kfold", images, ("unet", "report_cnn"), num_folds=2
    )
    with pytest.MonkeyPatch.context() as patch:
        blank(patch)
        return write(folder, images)


def parse(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def read_pictures(page: str) -> list[dict[str, object]]:
    (stored,) = re.findall(r'<script type="application/json" id="pictures">(.*?)</script>', page)
    pictures: list[dict[str, object]] = json.loads(stored)
    return pictures


def test_a_page_asks_for_nothing_outside_itself(kfold_page: str) -> None:
    elements = parse(kfold_page)
    assert elements.targets
    assert all(target.startswith(("data:", "#")) for target in elements.targets)
    assert {target[1:] for target in elements.targets if target[0] == "#"} <= set(elements.ids)


def test_every_test_image_has_a_row_and_a_picture(kfold_page: str, images: ImageSet) -> None:
    rows = re.findall(
        r'<tr data-row="(\d+)"><td><button type="button">([^<]+)</button>', kfold_page
    )
    assert sorted(name for _, name in rows) == sorted(images.names)
    pictures = read_pictures(kfold_page)
    assert len(pictures) == len(images.names)
    by_name = {name: pictures[int(row)] for row, name in rows}
    normal, tumour = by_name["normal (2)"], by_name["benign (0)"]
    assert normal["truth"] == "" and str(tumour["truth"]).startswith("M")
    assert tumour["size"] == [int(images.sizes[0][1]), int(images.sizes[0][0])]
    assert all(len(picture["found"]) == 2 for picture in pictures)  # type: ignore[arg-type]


def test_the_closed_test_images_of_a_search_are_a_click_away(
    search_run: Path, images: ImageSet
) -> None:
    closed = np.arange(5)
    write_refits(search_run, images, closed)
    page = write(search_run, images)
    rows = re.findall(r'<tr data-row="(\d+)"><td><button type="button">([^<]+)</button>', page)
    assert sorted(name for _, name in rows) == sorted(images.names[index] for index in closed)
    assert "<th>Dice, trial 1</th><th>Dice, known</th>" in page
    assert "closed test part, first seed" in page
    found = {name: read_pictures(page)[int(row)]["found"] for row, name in rows}
    assert all(str(outline).startswith("M") for outline in found["benign (0)"])  # type: ignore[attr-defined]


def test_a_search_that_tested_nothing_has_no_images(search_run: Path, images: ImageSet) -> None:
    assert 'id="images"' not in write(search_run, images)


def test_a_search_that_was_passed_on_without_its_images_keeps_its_page(
    search_run: Path, images: ImageSet
) -> None:
    write_refits(search_run, images, np.arange(5))
    (search_run / run_directory.REFIT_IMAGES).unlink()
    page = write(search_run, None)
    assert 'id="images"' not in page
    assert "wins by its refits; no closed test image tells how it does" in page


def test_a_page_without_images_keeps_their_rows(kfold_run: Path) -> None:
    page = write(kfold_run, None)
    assert 'id="pictures"' not in page and "their pictures are not in this file" in page
    assert page.count("<tr data-row=") == 24


def test_a_page_is_the_same_when_it_is_made_again(
    kfold_page: str, kfold_run: Path, images: ImageSet
) -> None:
    assert write(kfold_run, images) == kfold_page


def test_every_table_and_figure_of_a_run_is_on_its_page(
    kfold_run: Path, search_run: Path, images: ImageSet
) -> None:
    for run_dir, sections in ((kfold_run, KFOLD), (search_run, SEARCH)):
        write(run_dir, images)
        shown = {item for section in sections for item in section.items}
        figures = {path.stem for path in (run_dir / "figures").glob("*.svg")}
        pages = {path.stem for path in (run_dir / "tables").glob("*.md")}
        assert {f"page:{name}" for name in pages} <= shown
        # The galleries are replaced by the images themselves.
        patterns = [item.removeprefix("figure:").rstrip("*") for item in shown if "figure:" in item]
        assert not [name for name in figures if not name.startswith(tuple(patterns))]
        assert not [name for name in figures if not name.startswith(tuple(FIGURES))]


def test_names_from_users_are_shown_as_text(kfold_run: Path) -> None:
    evil = "<img src=x>&<script>"
    for name in (run_directory.FOLDS, run_directory.EPOCHS, run_directory.IMAGES):
        table = pd.read_csv(kfold_run / name)
        table["model"] = table["model"].replace("unet", evil)
        table.to_csv(kfold_run / name, index=False)
    (kfold_run / "predictions").rename(kfold_run / "predictions-elsewhere")
    config = override(Config(), load_settings(kfold_run / run_directory.CONFIG))
    config.kfold.models = {evil: {}, "report_cnn": {}}
    (kfold_run / run_directory.CONFIG).write_text(to_yaml(config))
    from busi_tune.results.html.page import write_html
    from busi_tune.results.pages import kfold_tables, pairs
    from tests.results.conftest import read_kfold

    run = read_kfold(kfold_run)
    pairs.write_pairs(run, kfold_tables.write_kfold_tables(run))
    write_html(run, None)
    page = (kfold_run / run_directory.REPORT).read_text()
    assert "&lt;img src=x&gt;" in page and "<img src=x>" not in page
    assert parse(page).tags.count("script") == 1


def test_a_failed_training_stands_with_its_reason(kfold_run: Path, search_run: Path) -> None:
    assert "No training failed." in write(kfold_run, None)
    failed = pd.DataFrame([{"model": "unet", "repeat": 0, "fold": 2, "reason": "<no memory>"}])
    failed.to_csv(kfold_run / run_directory.FAILURES, index=False)
    page = write(kfold_run, None)
    assert "<td>unet, repeat 0, fold 2</td><td>&lt;no memory&gt;</td>" in page
    page = write(search_run, None)
    assert "<td>trial 4</td><td>loss is not finite in epoch 3</td>" in page


def pair(first: str, second: str, verdict: str, difference: float) -> dict[str, object]:
    return {"first": first, "second": second, "score": "dice", "images": "tumour"} | {
        "verdict": verdict, "difference": difference,
    }  # fmt: skip


def models_of(dice: dict[str, float], chosen: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [
        {"model": model, "images": "tumour", "num_images": 40, "chosen_here": model in chosen}
        | {"dice_mean": mean, "dice_low": mean - 0.1, "dice_high": mean + 0.1}
        for model, mean in dice.items()
    ]
    return pd.DataFrame(rows)


def test_the_headline_names_the_leader_and_over_whom_it_is_a_claim() -> None:
    models = models_of({"a": 0.5, "b": 0.7, "c": 0.6})
    pairs = pd.DataFrame([
        pair("a", "b", "claim", -0.2), pair("b", "c", "undecided", 0.1), pair("a", "c", "claim", 0),
    ])  # fmt: skip
    assert describe_kfold(models, pairs) == (
        "b leads with Dice 0.700 [0.600, 0.800] on 40 tumour images: better than a by the rule of "
        "claims; not settled against c."
    )
    assert describe_kfold(models_of({"a": 0.5}), None) == (
        "a: Dice 0.500 [0.400, 0.600] on 40 tumour images."
    )


def test_for_a_leader_chosen_on_these_images_the_best_that_was_not_is_named_too() -> None:
    dice = {"a": 0.5, "b": 0.8, "c": 0.6, "d": 0.55}
    pairs = pd.DataFrame([
        pair("a", "b", CHOSEN, -0.3), pair("a", "c", "claim", -0.1), pair("a", "d", "claim", -0.05),
        pair("b", "c", CHOSEN, 0.2), pair("b", "d", CHOSEN, 0.2), pair("c", "d", "undecided", 0.05),
    ])  # fmt: skip
    assert describe_kfold(models_of(dice, chosen=("b",)), pairs) == (
        "b leads with Dice 0.800 [0.700, 0.900] on 40 tumour images; no claim is made for it, "
        "since it was chosen on these images. Of the models that were not, c is the best with Dice "
        "0.600 [0.500, 0.700]: better than a by the rule of claims; not settled against d."
    )
    alone = describe_kfold(models_of(dice, chosen=("a", "b", "d")), pairs.assign(verdict=CHOSEN))
    assert alone.endswith("c is the best with Dice 0.600 [0.500, 0.700].")
    none = describe_kfold(models_of(dice, chosen=tuple(dice)), pairs.assign(verdict=CHOSEN))
    assert none.endswith("since it was chosen on these images. So were all others.")


def test_a_leader_gets_no_claim_against_a_model_chosen_on_these_images() -> None:
    models = models_of({"a": 0.5, "b": 0.7}, chosen=("a",))
    said = describe_kfold(models, pd.DataFrame([pair("a", "b", CHOSEN, -0.2)]))
    assert said.endswith("40 tumour images: no claim against a, chosen on these images.")


def test_the_headline_of_a_search_without_refits_promises_nothing(search_run: Path) -> None:
    said = describe_search(read_search(search_run))
    assert re.match(r"Trial \d is the best of 6 by val_dice, 0\.\d+: chosen for being best", said)
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    trials.assign(state="PRUNED").to_csv(search_run / run_directory.TRIALS, index=False)
    assert describe_search(read_search(search_run)) == "No trial is complete."


def test_the_run_is_described(kfold_page: str) -> None:
    assert "<th>commit</th><td>abc123</td>" in kfold_page
    assert "<th>torch, version</th><td>2.14.1</td>" in kfold_page
    assert "num_folds: 2" in kfold_page
