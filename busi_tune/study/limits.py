"""When a search asks for no more trials: their number, wall clock, or a value that is enough."""

import time
from collections.abc import Callable

import optuna

from busi_tune.config import Config
from busi_tune.search_rules import read_duration
from busi_tune.study.objectives import best_trial, sign_of

_SPENT = "seconds"
_NOTE_EVERY = 5.0  # seconds: what a kill may cost the budget, beside the trial's own epoch


class Limits:
    """The limits of a search beside the number of its trials."""

    def __init__(
        self, study: optuna.Study, config: Config, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to count the time of this start; that of earlier ones is in the study."""
        self._study = study
        self._budget = read_duration(config.search.budget)
        self._target = config.search.target
        self._clock = clock
        self._began = clock()
        self._spent_before = float(study.user_attrs.get(_SPENT, 0.0))
        self._noted = self._spent_before

    def spent(self) -> float:
        """Seconds over all starts."""
        return self._spent_before + self._clock() - self._began

    def seconds_left(self) -> float | None:
        """Seconds of the budget that are left; None without one."""
        return None if self._budget is None else max(0.0, self._budget - self.spent())

    def note(self) -> None:
        """Write the time down, so that it outlives this process."""
        self._noted = self.spent()
        self._study.set_user_attr(_SPENT, self._noted)

    def note_now_and_then(self) -> None:
        """Write the time down while trials go on, where there is a budget to spend."""
        if self._budget is not None and self.spent() - self._noted >= _NOTE_EVERY:
            self.note()

    def is_over_time(self) -> bool:
        """Whether the wall clock has run out, also for trials that are running."""
        if self._budget is None or self.spent() < self._budget:
            return False
        if self._study.user_attrs.get(_SPENT, 0.0) < self._budget:
            self.note()  # a later start must not ask on
        return True

    def is_reached(self) -> bool:
        """Whether no further trial is to be asked."""
        return self.is_over_time() or self._has_target()

    def _has_target(self) -> bool:
        best = best_trial(self._study) if self._target is not None else None
        sign = sign_of(self._study)
        return best is not None and sign * best.values[0] >= sign * float(self._target or 0.0)
