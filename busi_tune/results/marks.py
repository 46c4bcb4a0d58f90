"""How a model that was chosen on images of the run is marked wherever its figures stand."""

from collections.abc import Container

from busi_tune.results.read import KfoldRun

CHOSEN = "chosen on these images"
MARK = "\N{DAGGER}"


def chosen_models(run: KfoldRun) -> list[str]:
    """Return the models that were chosen on images of this run."""
    return list(run.folds.loc[run.folds["chosen_here"].eq(True), "model"].unique())


def mark_model(model: str, chosen: Container[str]) -> str:
    """Name a model, with the mark where it was chosen on these images."""
    return f"{model}{MARK}" if model in chosen else model


def explain_mark(run: KfoldRun) -> str:
    """Return a sentence for captions, with a space before it; empty where nothing is marked."""
    return f" {MARK} {CHOSEN}, which flatters the figures." if chosen_models(run) else ""
