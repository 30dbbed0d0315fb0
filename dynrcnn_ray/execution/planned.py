"""What a command plans. It is written when all that can refuse the command has been asked, and never before.

Until then the storage is as it was: a finished table keeps the plan that it was drawn from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dynrcnn_ray.config.stored import from_stored, to_stored
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError, field_paths
from dynrcnn_ray.execution.claims import lock_claims
from dynrcnn_ray.experiment.experiment import OF_SEARCHES, SINGLE_TRIAL, Experiment, Seeds, field_value
from dynrcnn_ray.store.files import StoreError, UnusableFileError
from dynrcnn_ray.store.plans import with_earlier_rows
from dynrcnn_ray.store.results_store import ResultStore


@dataclass(frozen=True)
class Planned:
    """The tables and figures of one command.

    Attributes:
        store: where their plans are.
        experiments: by the name of their plan.
        base: what their rows start from, with its data.
        seeds: of their rows, by the experiment's name.
        command: as it may stand in a plan.
    """

    store: ResultStore
    experiments: Mapping[str, Experiment]
    base: Trial
    seeds: Mapping[str, Seeds]
    command: str

    def require_room(self) -> None:
        """Refuse to take the place of what does not belong to these tables. Writes nothing.

        Raises:
            ConfigError: the name is taken, or the rows that are there start from another base.
            StoreError: what is there cannot be read.
        """
        for name, experiment in self.experiments.items():
            require_name(self.store, name, experiment.reference)
            if experiment.keeps_earlier_rows and (earlier := self._earlier_base(name)):
                self._require_same_base(name, experiment, earlier)

    def write(self) -> None:
        """Lock what the tables claim, and write every plan.

        Raises:
            ConfigError: as `require_room`, of another command that was faster.
            StoreError: the storage cannot be written.
        """
        self.require_room()
        for experiment in self.experiments.values():
            lock_claims(self.store, experiment, self.base, self.seeds[experiment.name], self.command)
        for name in self.experiments:
            self.write_plan(name)

    def write_plan(self, name: str) -> pd.DataFrame:
        """Write one plan, with the base of a table that keeps earlier rows; returns rows as in `schemas.PLAN`."""
        experiment = self.experiments[name]
        if experiment.keeps_earlier_rows and self._earlier_base(name) is None:
            self.store.files.write_bytes(_base_file(name), to_stored(self.base).encode())
        lines = experiment.plan(self.base, self.seeds[experiment.name], self.command)
        earlier = self.store.plan(name) if experiment.keeps_earlier_rows else None
        if earlier is not None:
            earlier_seeds = earlier["seed"].dropna().astype(int).unique().tolist()
            lines = with_earlier_rows(earlier, lines, experiment.plan(self.base, earlier_seeds, self.command))
        return self.store.write_plan(name, lines)

    def _earlier_base(self, name: str) -> Trial | None:
        content = self.store.files.read_bytes(_base_file(name))
        try:
            return None if content is None else from_stored(content.decode())
        except (ConfigError, UnicodeDecodeError) as error:
            what = "is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise StoreError(
                f"{self.store.files.describe_path(_base_file(name))}: {what}; it holds the configuration that the rows "
                f"of {name!r} start from: bring it back from a copy, or choose another name"
            ) from None

    def _require_same_base(self, name: str, experiment: Experiment, earlier: Trial) -> None:
        """No label would tell that the rows of a table start from two configurations."""
        base = self.base
        if earlier.trial_id == base.trial_id:
            return
        differing = [path for path in field_paths(base) if field_value(base, path) != field_value(earlier, path)]
        overridden = [f"config.{path}" for path in experiment.overrides]
        deciding = [path for path in differing if path not in overridden and not path.startswith("config.run.")]
        path = next(iter(deciding or differing))
        raise ConfigError(
            f"{path.removeprefix('config.')}: "
            f"{field_value(base, path)!r} is not what the rows of {name!r} in {_place(self.store)} started "
            f"from, {field_value(earlier, path)!r}; choose another name"
        )


def plan_name(experiment: Experiment, trials: Sequence[str]) -> str:
    """The name of an experiment's plan.

    Args:
        experiment: any.
        trials: ids of its trials.
    """
    # Single trials have nothing to do with each other: each keeps a plan, a table and a figure of its own.
    return f"{experiment.name}_{trials[0]}" if experiment.name == SINGLE_TRIAL else experiment.name


def require_name(store: ResultStore, name: str, reference: str) -> None:
    """Refuse the name of a search for another table, and the other way round: the one would take the other's place.

    Raises:
        ConfigError: a plan of this name is there.
        StoreError: the storage does not give it.
    """
    try:
        earlier = store.plan(name)
    except UnusableFileError:
        # It does not say whose it was; the command that wrote it puts it right.
        return
    if earlier is None or earlier.empty or (known := earlier["anchor"].iloc[0]) == reference:
        return
    if reference in OF_SEARCHES or known in OF_SEARCHES:
        what = "a search" if known in OF_SEARCHES else "a table"
        raise ConfigError(f"name: {name!r} is that of {what} in {_place(store)}; choose another name")


def _base_file(name: str) -> str:
    return f"grids/{name}.yaml"


def _place(store: ResultStore) -> str:
    return store.files.place
