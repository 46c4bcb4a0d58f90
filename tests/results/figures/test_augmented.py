"""Whose augmentation the augmented samples show."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from busi_tune import run_directory
from busi_tune.config import AugmentConfig, Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.results.figures import augmented
from busi_tune.results.figures.augmented import choose_augment, write_augmented
from busi_tune.settings import override, to_yaml
from tests.results.conftest import read_kfold, read_search, search_for

FLIPPED = {"augment.horizontal_flip": 0.9}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(augmented, "save_figure", lambda figure, *_, **__: figures.append(figure))
    return figures


def text_of(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def test_a_search_shows_the_augmentation_of_its_winner(
    search_run: Path, images: ImageSet, drawn: list[Figure]
) -> None:
    run = read_search(search_run)
    assert choose_augment(run) == (AugmentConfig(), "")
    best = search_run / run_directory.BEST
    best.write_text(to_yaml(run.config))
    assert choose_augment(run) == (AugmentConfig(), "")
    best.write_text(to_yaml(override(Config(), FLIPPED)))
    assert choose_augment(run)[0].horizontal_flip == 0.9
    write_augmented(run, images, Split(np.arange(9), np.arange(9, 12), np.arange(12, 24)))
    assert "epoch 1 of the winner (best.yaml)" in text_of(drawn[0])


@pytest.mark.parametrize(
    ("models", "share", "owner"),
    [
        ({"unet": FLIPPED, "report_cnn": FLIPPED}, 0.9, ""),
        ({"unet": FLIPPED, "report_cnn": {}}, 0.9, "model unet"),
        ({"unet": {}, "report_cnn": FLIPPED}, 0.5, "model unet"),
        ({"unet": {}, "report_cnn": {}}, 0.5, ""),
    ],
)
def test_a_cross_validation_shows_its_first_models_and_says_so_where_others_differ(
    kfold_run: Path, models: dict[str, dict[str, float]], share: float, owner: str
) -> None:
    search_for(kfold_run, {"kfold.models": models})
    config, name = choose_augment(read_kfold(kfold_run))
    assert (config.horizontal_flip, name) == (share, owner)


def test_no_samples_are_drawn_where_the_winner_has_no_augmentation(
    search_run: Path, images: ImageSet, drawn: list[Figure]
) -> None:
    best = override(Config(), {"augment.enabled": False})
    (search_run / run_directory.BEST).write_text(to_yaml(best))
    write_augmented(read_search(search_run), images, Split(*np.split(np.arange(24), 3)))
    assert not drawn
