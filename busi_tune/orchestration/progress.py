"""The live table of a run; off a terminal, a plain line for each training that ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.phases import format_duration
from busi_tune.orchestration.standings import Standings, describe_settings, draw_sparkline
from busi_tune.plan import Outcome, Training, read_outcome

NUM_LEADERS = 3
SPARKLINE_WIDTH = 24


@dataclass
class _Row:
    """A training under way."""

    training: Training
    epoch: int = 0
    value: float | None = None


class Progress:
    """Follows trainings from start to end and shows them; a context manager."""

    def __init__(
        self,
        config: Config,
        num_open: Callable[[], int],
        earlier: Sequence[Training] = (),
        seconds_left: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            config: of the run; settings are shown where a training's differ.
            num_open: gives the number of trainings not ended yet, which may shrink.
            earlier: trainings of the run; those that an earlier start has ended are counted.
            seconds_left: of the run's budget; None where it has none.
            clock: gives seconds.
        """
        self._base = config
        self._monitor = config.training.monitor
        self._num_open = num_open
        self._seconds_left = seconds_left
        self._clock = clock
        self._began = clock()
        self._running: dict[str, _Row] = {}
        self._standings = Standings(config)
        for training in filter(has_ended, earlier):
            self._standings.add(training, read_outcome(training.folder), seconds=None)
        self._ended_before = self._standings.num_ended
        # The display asks from a thread of its own, in which the plan must not be touched.
        self._open = num_open()
        self._console = Console()
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=2)

    def __enter__(self) -> "Progress":
        """Start the live display on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the terminal."""
        self._live.stop()

    def on_start(self, training: Training) -> None:
        """Add a row."""
        self._running[training.name] = _Row(training)
        self._open = self._num_open()

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Update the training's row."""
        row = self._running.setdefault(training.name, _Row(training))
        row.epoch, row.value = int(metrics["epoch"]), metrics.get(self._monitor)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Count the end; off a terminal, print it."""
        self._running.pop(training.name, None)
        self._standings.add(training, outcome, self._elapsed())
        self._open = self._num_open()
        line = f"{training.name}: {outcome.status.replace('_', ' ')}"
        value = outcome.result.get("best_value")
        if value is not None:
            line += f", best {self._monitor} {value:.4f} at epoch {outcome.result['best_epoch']}"
            line += f" of {outcome.result['epochs']}, {outcome.result['seconds']:.0f} s"
        if outcome.failed:
            line += f": {outcome.reason}"
        counts = self._standings.counts
        told = [f"{counts[state]} {state}" for state in ("pruned", "failed") if counts[state]]
        best = self._standings.best
        leading = [f"best {best[0]:.4f} ({best[1]})"] if best else []
        summary = ", ".join([self._share(), *told, *leading, *self._time_left()])
        self._console.print(f"{line}  [{summary}]", soft_wrap=True, markup=False, highlight=False)

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _share(self) -> str:
        ended = self._standings.num_ended
        return f"{ended} of {ended + self._open}"

    def _time_left(self) -> list[str]:
        """Estimate from the pace of this start, and from the budget while it lasts."""
        elapsed = self._elapsed()
        ended = self._standings.num_ended - self._ended_before
        estimates = [elapsed / ended * self._open] if ended else []
        if self._seconds_left is not None and elapsed < self._seconds_left:
            estimates.append(self._seconds_left - elapsed)
        return [f"about {format_duration(min(estimates))} left"] if estimates and self._open else []

    def _draw(self) -> Group:
        running = Table("running", "epoch", self._monitor, "settings")
        for name, row in list(self._running.items()):
            config = row.training.config
            value = "-" if row.value is None else f"{row.value:.4f}"
            epoch = f"{row.epoch}/{config.training.epochs}"
            running.add_row(name, epoch, value, describe_settings(config, self._base))
        counts = {"running": len(self._running)} | self._standings.counts
        states = ", ".join(f"{number} {state}" for state, number in counts.items())
        elapsed = f"{format_duration(self._elapsed())} so far"
        lines = [f"{self._share()}: {states}; " + ", ".join([elapsed, *self._time_left()])]
        return Group(running, *self._draw_best(), Text("\n".join(lines)))

    def _draw_best(self) -> list[Table | Text]:
        best = self._standings.best
        if best is None:
            return []
        leaders = Table("leaders", "n", f"mean {self._monitor}", "settings")
        for each in self._standings.leaders(NUM_LEADERS):
            leaders.add_row(each.name, str(len(each.values)), f"{each.mean:.4f}", each.settings)
        value, name, after, seconds = best
        when = "" if seconds is None else f", {format_duration(seconds)}"
        line = draw_sparkline(self._standings.history, SPARKLINE_WIDTH)
        return [leaders, Text(f"best {value:.4f} ({name}) after {after}{when}  {line}")]


def has_ended(training: Training) -> bool:
    """Whether the training has left its result or why it failed."""
    ends = (run_directory.RESULT, run_directory.FAILURE)
    return any((training.folder / name).exists() for name in ends)
