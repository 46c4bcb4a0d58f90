"""Which configuration a search names, how much its own value flattered, and the closed test part.

The value by which a trial leads is its best of many. The refits have fresh seeds and fresh
validation parts, so that luck does not return; of the few that are refitted the best is still
chosen, which is why the closed test part has the last word.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.pages.tables import (
    MISSING,
    Table,
    format_estimate,
    format_score,
    write_csv,
    write_page,
)
from busi_tune.results.read import SearchRun, read_table
from busi_tune.statistics.intervals import Summary, summarise, summarise_trainings

IMAGES = {"tumour": "tumour images", "all": "all images"}


def choose_winner(refits: pd.DataFrame, maximises: bool) -> str:
    """Choose the trial with the best mean over the seeds that all have finished.

    A trial that lacks seeds wins only where no other has more: each seed has a validation part of
    its own, so means over different seeds do not compare.

    Args:
        refits: refits.csv.
        maximises: whether larger values are better.

    Returns:
        Its name; of equals that which the search ranked higher; empty where none has finished.
    """
    trials = refits[refits["trial"].notna()].dropna(subset=["best_value"])
    finished = trials.groupby("model", sort=False)["best_value"].agg(["size", "mean"])
    if finished.empty:
        return ""
    means = finished.loc[finished["size"] == finished["size"].max(), "mean"]
    return str(means.idxmax() if maximises else means.idxmin())


@dataclass(frozen=True)
class Refitted:
    """What the refits of a search left."""

    run: SearchRun
    refits: pd.DataFrame
    """A row per refit."""
    images: pd.DataFrame
    """A row per refit and image, `part` validation or test."""

    @property
    def winner(self) -> str:
        """The refitted trial with the best mean; empty where none was finished."""
        return choose_winner(self.refits, self.run.maximises)


def read_refitted(run: SearchRun) -> Refitted | None:
    """Read the refits of a search; None where it has none."""
    refits = read_table(run.folder / run_directory.REFITS, ["model", "trial", "best_value"])
    images = read_table(run.folder / run_directory.REFIT_IMAGES, ["model", "part"])
    refitted = Refitted(run, refits, images)
    return refitted if refitted.winner else None


def write_winner(run: SearchRun) -> None:
    """Write refits.csv, closed_test.csv and the page of both, where there are refits."""
    refitted = read_refitted(run)
    if refitted is None:
        return
    folder = run.folder / run_directory.TABLES
    refits, tested = refits_table(refitted), closed_test_table(refitted)
    write_csv(folder / "refits.csv", refits)
    write_csv(folder / "closed_test.csv", tested)
    sections: list[str | Table] = [
        describe_winner(refitted),
        "## Refits",
        Table(_refits_caption(refitted), _refits_rows(refits)),
    ]
    sections.append("## Closed test part")
    if len(tested):
        sections.append(Table(_test_caption(refitted), _test_rows(tested)))
    sections += describe_test(refitted, tested)
    write_page(folder, "winner", "The winner of the search", sections)


def refits_table(refitted: Refitted) -> pd.DataFrame:
    """Return a row per refitted configuration: its value in the search and over its refits.

    `optimism` is the first minus the second, negated for a loss; `dice_*` is the mean over
    validation tumour images in original pixels with its interval over groups.
    """
    sign = 1 if refitted.run.maximises else -1
    validation = _tumour(refitted.images[refitted.images["part"] == "validation"])
    rows = []
    for model, own in refitted.refits.groupby("model", sort=False):
        (dice,) = _over_images(validation[validation["model"] == model])
        value = own["search_value"].iloc[0]
        rows.append(
            {"model": model, "winner": model == refitted.winner, "refits": own["key"].nunique()}
            | {"finished": int(own["best_value"].notna().sum()), "search_value": value}
            | {"refit_value": own["best_value"].mean(), "refit_sd": own["best_value"].std()}
            | {"optimism": sign * (value - own["best_value"].mean())}
            | {"num_images": dice.num_images, "dice_mean": dice.mean}
            | {"dice_low": dice.low, "dice_high": dice.high}
            | {name: own[name].mean() for name in ("epochs", "seconds", "num_parameters")}
        )
    return pd.DataFrame(rows)


def closed_test_table(refitted: Refitted) -> pd.DataFrame:
    """Return a row per model and kind of images: Dice on the closed test part, winner minus it.

    Intervals cover images, by groups, and trainings.
    """
    test = refitted.images[refitted.images["part"] == "test"]
    if refitted.winner not in set(test["model"]):
        test = test.iloc[:0]
    rows = []
    for kind in IMAGES if len(test) else ():
        summaries = _summarise_test(_tumour(test) if kind == "tumour" else test, refitted.winner)
        for model in dict.fromkeys(test["model"]):
            if model not in summaries:
                continue
            own, lead = summaries[model], summaries.get(f"{refitted.winner} - {model}")
            rows.append(
                {"images": kind, "model": model, "refits": _num_refits(test, model)}
                | {"num_images": own.num_images, "dice_mean": own.mean}
                | {"dice_low": own.low, "dice_high": own.high}
                | {"winner_minus_mean": lead.mean if lead else np.nan}
                | {"winner_minus_low": lead.low if lead else np.nan}
                | {"winner_minus_high": lead.high if lead else np.nan}
            )
    columns = ["images", "model", "refits", "num_images", "dice_mean", "dice_low", "dice_high"]
    columns += ["winner_minus_mean", "winner_minus_low", "winner_minus_high"]
    return pd.DataFrame(rows, columns=columns)


def describe_winner(refitted: Refitted) -> str:
    """Say which configuration won, by how much, and how much the search's value flattered it."""
    table = refits_table(refitted)
    row = table[table["winner"]].iloc[0]
    interval = format_estimate(row, "dice")
    return (
        f"{refitted.winner} has the best mean over {int(row['finished'])} refits: "
        f"{refitted.run.monitor} {row['refit_value']:.3f}, where the search had seen "
        f"{row['search_value']:.3f}, an optimism of {row['optimism']:+.3f}. The refits have other "
        "validation parts, easier or harder ones, and of them too the best epoch and the best of "
        "several configurations were chosen: their mean is less flattered, not free of it. Dice on "
        f"their validation tumour images, in original pixels: {interval}."
    )


def describe_test(refitted: Refitted, tested: pd.DataFrame) -> list[str]:
    """Say what the closed test part tells, a sentence per model; a null result is said as one."""
    tumour = tested[tested["images"] == "tumour"]
    rows = {str(row["model"]): row for _, row in tumour.iterrows()}
    if not len(tested) and _opened_for(refitted.run) == refitted.winner:
        return [
            f"The closed test part was looked at for {refitted.winner}, but its rows are not in "
            f"{run_directory.REFIT_IMAGES}, so nothing is said of it here."
        ]
    if not len(tested):
        return [
            f"The closed test part was not looked at for {refitted.winner}: it is opened once, for "
            "the winner that a search has when it first ends."
        ]
    if refitted.winner not in rows:
        return ["The closed test part has no tumour image, so nothing is said of it."]
    own = rows.pop(refitted.winner)
    lines = [
        f"{refitted.winner} on the closed test part, looked at once: Dice "
        f"{format_estimate(own, 'dice')} over {int(own['num_images'])} tumour images."
    ]
    for model, row in rows.items():
        said = format_estimate(row, "winner_minus")
        if row["winner_minus_low"] > 0:
            lines.append(f"It is above {model} there, by {said}.")
        elif row["winner_minus_high"] < 0:
            lines.append(f"It is below {model} there, by {said}.")
        else:
            lines.append(f"Its difference to {model}, {said}, may be none: undecided.")
    return lines


def _opened_for(run: SearchRun) -> str:
    path = run.folder / run_directory.OPENED
    return str(run_directory.read_json(path)["winner"]) if path.exists() else ""


def closing_lines(run: SearchRun) -> list[str]:
    """Return what is said of the winner at the end of a search."""
    refitted = read_refitted(run)
    if refitted is None:
        return []
    return [describe_winner(refitted), *describe_test(refitted, closed_test_table(refitted))]


def _tumour(images: pd.DataFrame) -> pd.DataFrame:
    return images[images["tp"] + images["fn"] > 0] if len(images) else images


def _over_images(images: pd.DataFrame) -> list[Summary]:
    if not len(images):
        return summarise(np.zeros((0, 1)))
    per_image = images.groupby("image").agg({"dice": "mean", "group": "first"})
    return summarise(per_image[["dice"]], per_image["group"])


def _num_refits(test: pd.DataFrame, model: str) -> int:
    return int(test.loc[test["model"] == model, "refit"].nunique())


def _summarise_test(test: pd.DataFrame, winner: str) -> dict[str, Summary]:
    """Summarise the models on the images of the test part; the winner comes first."""
    if not len(test):
        return {}
    wide = test.pivot_table(index=["image", "group"], columns=["model", "refit"], values="dice")
    wide = wide.sort_index(axis=1)
    models = wide.columns.get_level_values("model")
    order = np.argsort(models != winner, kind="stable")
    groups = wide.index.get_level_values("group")
    return summarise_trainings(wide.to_numpy()[:, order], models[order], groups)


def _refits_caption(refitted: Refitted) -> str:
    monitor = refitted.run.monitor
    return (
        "The best configurations of the search and the baselines, trained again with fresh seeds; "
        "each seed has a validation part of its own, the same for all. Search: the value by which "
        f"a trial was ranked ({monitor}, training size, best epoch). Refits: mean and standard "
        f"deviation of {monitor} over the seeds, each in its best epoch. Optimism: search minus "
        "refits. Dice: per validation tumour image in original pixels, with its 95 % interval over "
        f"groups of images; images that several seeds drew count once. {EMPTY_RULE}"
    )


def _refits_rows(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for _, row in table.iterrows():
        spread = "" if np.isnan(row["refit_sd"]) else f" ± {row['refit_sd']:.3f}"
        optimism = row["optimism"]
        rows.append(
            {"Configuration": f"{row['model']} (winner)" if row["winner"] else row["model"]}
            | {"Search": format_score(row["search_value"])}
            | {"Refits": format_score(row["refit_value"]) + spread}
            | {"Optimism": MISSING if np.isnan(optimism) else f"{optimism:+.3f}"}
            | {"Dice": format_estimate(row, "dice"), "n": row["num_images"]}
            | {"Seeds": row["finished"], "Epochs": row["epochs"], "Seconds": row["seconds"]}
            | {"Parameters": f"{row['num_parameters']:,.0f}"}
        )
    return pd.DataFrame(rows)


def _test_caption(refitted: Refitted) -> str:
    return (
        "Dice per image in original pixels on the closed test part, which no trial and no refit "
        "has seen and which was looked at once, by the winner and the baselines. Means over images "
        "and refits; 95 % intervals over groups of images and over refits (bootstrap; few refits "
        "make them somewhat narrow), each by itself, not corrected for the number of comparisons. "
        f"{EMPTY_RULE}"
    )


def _test_rows(tested: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"Model": row["model"], "Images": IMAGES[row["images"]], "n": row["num_images"]}
        | {"Dice": format_estimate(row, "dice")}
        | {"Winner minus model": format_estimate(row, "winner_minus")}
        for _, row in tested.iterrows()
    ]
    return pd.DataFrame(rows)
