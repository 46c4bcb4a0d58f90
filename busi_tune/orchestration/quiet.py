"""What keeps Tune from printing lines and from saving state of its own."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback


class Unsaved:
    """Keeps Tune's snapshots from carrying the plan, whose own files are the truth."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Lines(TrialProgressCallback):
    """Stands where Tune would print its own lines per trial."""

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Say nothing."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say nothing: the observer does."""
