"""Lines at the foot of a terminal that are renewed while trials run: one for each, and a grid's bar below them."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynrcnn_ray.experiment.costs import duration

_FEWEST_CELLS_OF_A_NAME = 8
_BAR_WIDTH = 40
_SHARE_TO_JUDGE_BY = 0.05
"""Of a grid: after less, its speed says little."""


class TerminalLines:
    """Used as a context: the foot is drawn within it, and gone after it, however it ends; the cursor is back then."""

    def __init__(self, num_trials: int) -> None:
        """For so many trials; one alone has no bar."""
        self._num_trials = num_trials
        self._lines: dict[str, tuple[str, str]] = {}
        self._done = 0
        self._share = 0.0
        self._first: tuple[float, float] | None = None
        # What others print meanwhile goes above the foot.
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        # Drawn whenever something is new, and by no thread of its own, which would take time from the trainings.
        self._live = Live(get_renderable=self._foot, console=self._console, auto_refresh=False, transient=True)

    @staticmethod
    def fit_here() -> bool:
        """Whether the standard output is a terminal in which lines can be renewed."""
        return sys.stdout.isatty() and not Console(file=sys.stdout).is_dumb_terminal

    def __enter__(self) -> Self:
        """Draw from now on."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def print(self, text: str) -> None:
        """Print above the foot, where it stays; the terminal breaks what is too long, as it does without a foot."""
        self._console.print(Text(text), soft_wrap=True)

    def show(self, trial_id: str, name: str, state: str) -> None:
        """Renew a trial's line: the name is cut where the state leaves it no room."""
        self._lines[trial_id] = name, state
        self._live.refresh()

    def end(self, trial_id: str) -> None:
        """Take a trial's line away, when the next thing is drawn."""
        self._lines.pop(trial_id, None)

    def grid_is_at(self, done: int, share: float) -> None:
        """Renew the grid's bar, when the next thing is drawn.

        Args:
            done: trials that have ended.
            share: of all work that is done, from 0 to 1.
        """
        self._done, self._share = done, share
        if self._first is None:
            # Until a trial is on its way there is no speed.
            self._first = time.monotonic(), share

    def _foot(self) -> RenderableType:
        lines = [self._line(name, state) for name, state in self._lines.values()]
        return Group(*lines, *([self._bar()] if self._num_trials > 1 else []))

    def _line(self, name: str, state: str) -> Text:
        room = max(_FEWEST_CELLS_OF_A_NAME, self._console.width - cell_len(state) - 3)
        if cell_len(name) > room:
            name = set_cell_size(name, room - 1) + "…"
        return Text(f"{name}  {state}", no_wrap=True, overflow="ellipsis")

    def _bar(self) -> Table:
        row = Table.grid(padding=(0, 2))
        row.add_row(
            ProgressBar(total=1.0, completed=self._share, width=min(_BAR_WIDTH, self._console.width // 2)),
            Text(f"{self._done}/{self._num_trials} trials{self._left()}", no_wrap=True, overflow="ellipsis"),
        )
        return row

    def _left(self) -> str:
        began, share = self._first or (0.0, self._share)
        if self._share - share < _SHARE_TO_JUDGE_BY or self._share >= 1:
            return ""
        seconds = (time.monotonic() - began) / (self._share - share) * (1 - self._share)
        return f"  about {duration(seconds)} left"
