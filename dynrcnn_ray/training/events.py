"""What happens while a trial trains, in the order in which it happens; every worker sees the same at the same steps."""

from collections.abc import Iterable
from dataclasses import dataclass

from dynrcnn_ray.training.outcome import TrialOutcome
from dynrcnn_ray.training.state import TrainingState
from dynrcnn_ray.training.telemetry import DynamicsRow


@dataclass(frozen=True)
class Note:
    """What people should know of a resume, or of the weights that a trial starts from."""

    text: str


@dataclass
class Logged:
    """A row of the dynamics: every `log_every` steps, and after the last one.

    Attributes:
        row: the row.
        wants_checkpoint: set by whoever takes the event, on all workers alike: a checkpoint is then due at once.
    """

    row: DynamicsRow
    wants_checkpoint: bool = False


@dataclass(frozen=True)
class Timed:
    """How fast the first steps were, long before the first row; none of a training that is over soon.

    Attributes:
        steps: how many were timed.
        seconds: of each, on average, on this worker.
        steps_left: how many are still to come.
        validation_images: that the trial is evaluated on.
    """

    steps: int
    seconds: float
    steps_left: int
    validation_images: int = 0


@dataclass(frozen=True)
class CheckpointDue:
    """The training state should be written now.

    It is due every `checkpoint_every` steps, at the first row after `checkpoint_minutes`, at a row that wanted one, and
    after the last step.

    Attributes:
        state: what to write; it changes with the next step.
        is_wanted: a row wanted it: whoever does has no time for an evaluation.
        is_best: its AP is the best so far; known on the first worker, and where checkpoints are evaluated.
    """

    state: TrainingState
    is_wanted: bool = False
    is_best: bool = False


@dataclass(frozen=True)
class Finished:
    """The trial has trained to its end and was evaluated."""

    outcome: TrialOutcome


TrainingEvent = Timed | Logged | CheckpointDue
TrialEvent = Note | Timed | Logged | CheckpointDue | Finished


def outcome_of(events: Iterable[TrialEvent]) -> TrialOutcome:
    """The outcome of a trial that nobody watches."""
    *_, last = events
    assert isinstance(last, Finished), "a trial ends by finishing, or raises"
    return last.outcome
