"""The live table of a run; off a terminal, a plain line for each training that ends."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from busi_tune.plan import Outcome, Training


class Progress:
    """Follows trainings from start to end and shows them; a context manager."""

    def __init__(self, monitor: str, num_trainings: int, num_ended: int = 0) -> None:
        """Begin to count.

        Args:
            monitor: the metric that is shown.
            num_trainings: trainings of the whole run.
            num_ended: those that an earlier start has ended.
        """
        self._monitor = monitor
        self._sign = -1 if monitor == "val_loss" else 1
        self._num_trainings = num_trainings
        self._ended_before = num_ended
        self._counts = {"finished": 0, "pruned": 0, "failed": 0}
        self._running: dict[str, dict[str, float]] = {}
        self._best: tuple[float, str] | None = None
        self._began = time.monotonic()
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
        self._running[training.name] = {"epochs": training.config.training.epochs}

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Update the training's row."""
        row = self._running.setdefault(training.name, {"epochs": training.config.training.epochs})
        row |= {"epoch": metrics["epoch"], "value": metrics[training.config.training.monitor]}

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Count the end; off a terminal, print it."""
        self._running.pop(training.name, None)
        status = "finished" if outcome.status == "early_stopped" else outcome.status
        self._counts[status] += 1
        value = outcome.result.get("best_value")
        if status == "finished" and value is not None:
            self._best = max(
                self._best or (self._sign * value, training.name),
                (self._sign * value, training.name),
            )
        line = f"{training.name}: {outcome.status.replace('_', ' ')}"
        if value is not None:
            line += f", best {self._monitor} {value:.4f} at epoch {outcome.result['best_epoch']}"
            line += f" of {outcome.result['epochs']}, {outcome.result['seconds']:.0f} s"
        if outcome.failed:
            line += f": {outcome.reason}"
        self._console.print(
            f"{line}  [{self._summary()}]", soft_wrap=True, markup=False, highlight=False
        )

    def _summary(self) -> str:
        ended = sum(self._counts.values())
        total = ended + self._ended_before
        parts = [f"{total} of {self._num_trainings}"]
        parts += [
            f"{count} {name}"
            for name, count in self._counts.items()
            if count and name != "finished"
        ]
        if self._best:
            parts.append(f"best {self._sign * self._best[0]:.4f} ({self._best[1]})")
        if ended and total < self._num_trainings:
            elapsed = time.monotonic() - self._began
            left = elapsed / ended * (self._num_trainings - total)
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _draw(self) -> Group:
        table = Table("training", "epoch", self._monitor)
        for name, row in list(self._running.items()):
            epoch = f"{row.get('epoch', 0):.0f}/{row['epochs']:.0f}"
            table.add_row(name, epoch, f"{row['value']:.4f}" if "value" in row else "-")
        elapsed = _duration(time.monotonic() - self._began)
        return Group(table, Text(f"{self._summary()}, {elapsed} so far"))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
