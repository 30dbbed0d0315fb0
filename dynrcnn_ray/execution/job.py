"""What goes from the command to a trial's driver, and on to its workers."""

from dataclasses import dataclass
from typing import Protocol

from dynrcnn_ray.config import Trial, TrialConfig


class Job(Protocol):
    """What Tune runs, as its progress lines tell it."""

    @property
    def trial(self) -> Trial:
        """The trial, whose id is Tune's name of it."""
        ...

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration, with the workers that it asks for."""
        ...

    @property
    def setting(self) -> str:
        """The row's name."""
        ...

    @property
    def starts(self) -> str:
        """What the line of its start says."""
        ...

    @property
    def trains(self) -> bool:
        """Whether another try goes on from a checkpoint."""
        ...


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and where it was first asked for.

    Attributes:
        trial: the run.
        experiment: name of the experiment.
        setting: the row's label.
    """

    trial: Trial
    experiment: str
    setting: str


@dataclass(frozen=True)
class TrialJob:
    """A trial to train, and where its results go.

    Attributes:
        trial: the run.
        experiment: name of the experiment that asked for it first.
        setting: the row's name.
        storage: the store's absolute path or URI.
        marker: name of the file that the command has left in the storage, if it has: a process that does not
            find it sees another storage.
        git_commit: the code's commit, for the row.
    """

    trial: Trial
    experiment: str
    setting: str
    storage: str
    marker: str = ""
    git_commit: str = ""
    trains = True

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration, with the workers that it asks for."""
        return self.trial.config

    @property
    def starts(self) -> str:
        """What the line of its start says."""
        return f"starts: trial {self.trial.trial_id}, {self.config.total_steps} steps"
