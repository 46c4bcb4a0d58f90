from typing import Any

import pytest

from busi_tune.config import Config
from busi_tune.results.pages.augmentation import list_changes
from busi_tune.settings import flatten, override


def changes(**settings: Any) -> list[str]:
    config = override(Config(), {f"augment.{name}": value for name, value in settings.items()})
    return list_changes(flatten(config).__getitem__)


def test_defaults_are_described() -> None:
    assert changes() == [
        "brightness and contrast changed by a factor of 0.8 to 1.2 each",
        "a crop of 8 to 100 % of the area with an aspect ratio of 0.75 to 1.33",
        "a left-right flip with probability 0.5",
        "a top-bottom flip with probability 0.5",
    ]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("rotation", 15.0, "a rotation by up to 15 degrees to either side"),
        ("scale", 0.25, "a zoom by 0.8 to 1.25"),
        ("elastic", 0.05, "(cubic B-splines over 4 by 4 cells) by up to 5 % of the side"),
        ("gamma", 0.5, "a gamma of 0.667 to 1.5"),
        ("speckle", 0.1, "noise with a standard deviation of up to 10 %"),
        ("blur", 1.5, "blur with a standard deviation of up to 1.5 pixels"),
        ("cutout", 0.3, "a square of up to 30 % of the side"),
        ("lesion_crop", 0.5, "1.33, with probability 0.5 placed on a pixel of the lesion"),
        ("contrast", 0.0, "brightness changed by a factor of 0.8 to 1.2"),
    ],
)
def test_each_setting_is_described(setting: str, value: float, said: str) -> None:
    assert any(said in change for change in changes(**{setting: value}))
    assert said not in "; ".join(changes())


def test_the_strength_is_in_what_is_described() -> None:
    assert changes(strength=0.5, rotation=20, horizontal_flip=0) == [
        "brightness and contrast changed by a factor of 0.9 to 1.1 each",
        "a rotation by up to 10 degrees to either side",
        "a crop of 28.3 to 100 % of the area with an aspect ratio of 0.866 to 1.15",
        "a top-bottom flip with probability 0.5",
    ]


def test_nothing_is_described_where_nothing_is_changed() -> None:
    assert changes(enabled=False, rotation=20) == []
    assert changes(strength=0, horizontal_flip=0, vertical_flip=0, lesion_crop=1) == []
