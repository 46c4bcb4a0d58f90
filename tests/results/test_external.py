import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from busi_tune.data.cache import ImageSet
from busi_tune.data.nnunet import name_cases
from busi_tune.report import main
from busi_tune.results.external import import_nnunet
from busi_tune.results.pages.methods import write_methods
from busi_tune.results.write import console_rows
from tests.results.conftest import read_kfold, write_kfold_run

Summaries = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> Path:
    return write_kfold_run(tmp_path_factory.mktemp("runs") / "run", images, ("unet",), num_folds=2)


@pytest.fixture
def run_dir(tmp_path: Path, written: Path) -> Path:
    """A run for a test to change; the maps of its predictions are not read here."""
    without_maps = shutil.ignore_patterns("predictions")
    return Path(shutil.copytree(written, tmp_path / "run", ignore=without_maps))


def report(run_dir: Path, *more: str) -> int:
    """Report a run whose images are not at hand."""
    return main([str(run_dir), "--data_root", str(run_dir / "none"), *more])


def make_summaries(run_dir: Path) -> Summaries:
    """nnU-Net's view of the run's own U-Net; its Dice is not a number where nothing is."""
    splits = json.loads((run_dir / "splits.json").read_text())["splits"]
    names = {name for parts in splits.values() for part in parts.values() for name in part}
    cases = name_cases(names)
    rows = read_kfold(run_dir).images
    rows = rows[rows["model"] == "unet"]
    summaries: Summaries = {}
    for row in rows.to_dict("records"):
        total = 2 * row["tp"] + row["fp"] + row["fn"]
        metrics = {name.upper(): row[name] for name in ("tp", "fp", "fn", "tn")}
        metrics["Dice"] = 2 * row["tp"] / total if total else math.nan
        case = cases[row["image"]]
        summaries.setdefault(row["fold"], []).append({
            "metrics": {"1": metrics},
            "prediction_file": f"/results/fold_{row['fold']}/validation/{case}.png",
            "reference_file": f"/preprocessed/gt_segmentations/{case}.png",
        })  # fmt: skip
    return summaries


def write_summaries(folder: Path, summaries: Mapping[Any, Any]) -> Path:
    for fold, cases in summaries.items():
        path = folder / f"fold_{fold}" / "validation" / "summary.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"metric_per_case": cases, "mean": {}}))
    return folder


@pytest.mark.usefixtures("blank_figures")
def test_nnunet_is_a_further_model_of_the_report(run_dir: Path, tmp_path: Path) -> None:
    folder = write_summaries(tmp_path / "trainer", make_summaries(run_dir))
    assert report(run_dir, "--nnunet", f"nn={folder}") == 0
    run = read_kfold(run_dir)
    assert (run.models, run.trained) == (["unet", "nn"], ["unet"])
    page = (run_dir / "tables" / "models.md").read_text()
    assert "| nn | 16 |" in page
    assert "| nn | 2 | - | - | - | - | - |" in page
    row = console_rows(run_dir)[-1]
    assert (row["model"], row["epochs"], row["parameters"], row["note"]) == ("nn", "-", "-", "")


def test_its_figures_are_its_counts_under_our_rule(run_dir: Path, tmp_path: Path) -> None:
    folder = write_summaries(tmp_path / "trainer", make_summaries(run_dir))
    import_nnunet(run_dir, "nn", folder)
    rows = read_kfold(run_dir).images
    by_model = {name: part.set_index("image").sort_index() for name, part in rows.groupby("model")}
    scores = ["dice", "iou", "precision", "recall", "specificity", "group"]
    pd.testing.assert_frame_equal(by_model["nn"][scores], by_model["unet"][scores])


def test_a_training_on_all_images_is_passed_over(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = write_summaries(tmp_path / "trainer", {"all": []})
    assert main([str(run_dir), "--nnunet", f"nn={everything}"]) == 2
    assert "must hold fold_0/validation/summary.json and so on, not fold_all alone" in (
        capsys.readouterr().err
    )
    folder = write_summaries(everything, make_summaries(run_dir))
    import_nnunet(run_dir, "nn", folder)
    assert read_kfold(run_dir).models == ["unet", "nn"]


def test_methods_speak_for_the_choices_made_here_alone(run_dir: Path, tmp_path: Path) -> None:
    folder = write_summaries(tmp_path / "trainer", make_summaries(run_dir))
    texts = []
    for _ in range(2):
        write_methods(read_kfold(run_dir))
        texts.append((run_dir / "tables" / "methods.md").read_text())
        import_nnunet(run_dir, "nn", folder)
    assert "Test images took no part in any choice." in texts[0]
    assert "took no part in any choice that this software made for `unet`." in texts[1]


def forget_a_fold(summaries: Summaries) -> None:
    del summaries[1]


def add_one_twice(summaries: Summaries) -> None:
    summaries[0].append(summaries[0][0])


def forget_an_image(summaries: Summaries) -> None:
    del summaries[0][0]


def swap_folds(summaries: Summaries) -> None:
    summaries[0], summaries[1] = summaries[1], summaries[0]


def add_an_unknown(summaries: Summaries) -> None:
    summaries[0].append({**summaries[0][0], "prediction_file": "/x/strange.png"})


def count_another_mask(summaries: Summaries) -> None:
    summaries[0][0]["metrics"]["1"]["TP"] += 3
    summaries[0][0]["metrics"]["1"]["TN"] -= 3


def drop_the_label(summaries: Summaries) -> None:
    summaries[0][0]["metrics"]["2"] = summaries[0][0]["metrics"].pop("1")


def drop_everything(summaries: Summaries) -> None:
    summaries.clear()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (forget_a_fold, "fold 1 has no summary.json"),
        (add_one_twice, "is tested twice"),
        (forget_an_image, "is not tested"),
        (swap_folds, "is tested in fold 0, not 1"),
        (add_an_unknown, "strange in fold 0 is no test image of the run"),
        (count_another_mask, "was scored against another mask"),
        (drop_the_label, "must be nnU-Net v2's summary.json of a label 1"),
        (drop_everything, "must hold fold_"),
    ],
)
def test_results_of_other_folds_or_masks_are_refused(
    run_dir: Path, tmp_path: Path, damage: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = make_summaries(run_dir)
    damage(summaries)
    folder = write_summaries(tmp_path / "trainer", summaries)
    assert main([str(run_dir), "--nnunet", f"nn={folder}"]) == 2
    assert message in capsys.readouterr().err
    assert not (run_dir / "external").exists()


@pytest.mark.parametrize(
    "named", ["nn", "=x", "nn=", "unet=x", "../nn=x", "unfinished=x", "nested_search=x"]
)
def test_a_name_that_cannot_be_used_is_refused(
    run_dir: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("models:\n", "models:\n    unfinished: {}\n"))
    assert main([str(run_dir), "--nnunet", named]) == 2
    assert "--nnunet " in capsys.readouterr().err
