"""What a table is, the paper's or one's own: its rows as configurations, and the numbers that somebody has reported."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dynrcnn_ray.config.trial import NOT_FOUND_YET, Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.models.user_module import identify_module
from dynrcnn_ray.models.weights import identify_detector_weights, identify_weights, with_absolute_paths
from dynrcnn_ray.store.labels import row_names

METRICS_BY_IOU = ("AP", "AP50", "AP60", "AP70", "AP80", "AP90")
"""Columns of the boxes' AP by IoU: those of the paper's Tables 1 and 3 to 6."""
METRICS_BY_SIZE = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
"""Columns by the objects' size: those of the paper's Tables 2, 8 and 9."""
SINGLE_TRIAL = "train"
"""Name of an experiment of one trial."""
OF_SEARCHES = SEARCHED, SEARCH_RESULT = ("Search", "Own search")
"""The references of a search's trials, and of the table that it ends with."""


Seeds = Sequence[int] | Mapping[int, Sequence[int]]
"""The seeds that rows run with, once with each: the same for all, or by row."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        labels: the cells of its label columns, in order.
        config: the run, whose seed is set later; None for a row that only the paper reports.
        reported: the paper's numbers by metric.
        baseline: index of the row that its differences refer to; None for none.
        metric_prefix: "segm_" where the numbers are those of the masks.
    """

    labels: Mapping[str, str]
    config: TrialConfig | None
    reported: Mapping[str, float]
    baseline: int | None = None
    metric_prefix: str = ""


@dataclass(frozen=True)
class Experiment:
    """A table or figure, the paper's or one's own.

    Attributes:
        name: the command.
        reference: the paper's, such as "Table 3, Section 5.4"; of any other, what it is, such as "Own experiment".
        title: what it shows.
        metrics: the columns of numbers.
        overrides: fields such as `dynamic.dla` that its rows override, so that the user cannot set them.
        rows: makes the rows from a base configuration.
        paper_split: where the paper measured: COCO minival (val2017) or test-dev.
        figures: name of the module whose `FIGURES` draw it, see `report.figures`; empty: the trends of its rows. It is
            imported when something is drawn.
        keeps_earlier_rows: rows of an earlier plan of this name stay in the table; see `plans.with_earlier_rows`.
        claims: what is claimed of the rows: lines, or mappings of metrics to comparisons; see `report.stated_claims`.
        data_of_masks: the data of rows with masks, where other annotations are left out for them; None: the base's.
    """

    name: str
    reference: str
    title: str
    metrics: tuple[str, ...]
    overrides: tuple[str, ...]
    rows: Callable[[TrialConfig], Sequence[Row]]
    paper_split: Literal["minival", "test-dev"] = "minival"
    figures: str = ""
    keeps_earlier_rows: bool = False
    claims: Any = ()
    data_of_masks: Inputs | None = None

    def rows_with_trials(self, base: Trial) -> list[tuple[Row, Trial | None]]:
        """The rows, each with its trial: rows may differ in their backbone, and so in its weights.

        Raises:
            WeightsError: a file of weights is not there.
        """
        return [(row, self._trial(row.config, base) if row.config else None) for row in self.rows(base.config)]

    def _trial(self, config: TrialConfig, base: Trial) -> Trial:
        return identified(config, (self.data_of_masks if config.model.has_masks else None) or base.inputs)

    def trials(self, base: Trial, seeds: Seeds) -> dict[str, tuple[str, Trial]]:
        """The distinct trials by their id, each with its row's name.

        All rows of the first seed come first, so that a whole table is there early.
        """
        rows = self.rows_with_trials(base)
        names = row_names([row.labels for row, _ in rows]) if rows else []
        by_row = seeds_by_row(seeds, len(rows))
        trials: dict[str, tuple[str, Trial]] = {}
        for seed in dict.fromkeys(seed for of_row in by_row for seed in of_row):
            for name, (_, trial), of_row in zip(names, rows, by_row, strict=True):
                if trial is not None and seed in of_row:
                    seeded = trial.with_seed(seed)
                    trials.setdefault(seeded.trial_id, (name, seeded))
        return trials

    def check_base(self, base: TrialConfig, scale_base: TrialConfig) -> None:
        """Refuse a value that the rows would overwrite, with a `ConfigError`."""
        check_not_set(base, scale_base, self.overrides, self.name)

    def plan(self, base: Trial, seeds: Seeds, command: str) -> list[dict[str, Any]]:
        """The rows of the store's plan: which trial belongs to which row of the table."""
        rows = self.rows_with_trials(base)
        by_row = seeds_by_row(seeds, len(rows))
        return [
            {
                "experiment": self.name,
                "title": self.title,
                "anchor": self.reference,
                "row": index,
                "labels": dict(row.labels),
                "seed": seed,
                "trial_id": trial.with_seed(seed).trial_id if trial and seed is not None else None,
                "reported": dict(row.reported),
                "metrics": list(self.metrics),
                "metric_prefix": row.metric_prefix,
                "paper_split": self.paper_split,
                "baseline_row": row.baseline,
                "scale": base.config.scale,
                "command": command,
            }
            for index, (row, trial) in enumerate(rows)
            for seed in (by_row[index] if trial else (None,))
        ]


def distinct_trials(experiments: Iterable[Experiment], base: Trial, seeds: Mapping[str, Seeds]) -> dict[str, Trial]:
    """The trials of some experiments, each once, by its id.

    Args:
        experiments: several may have a trial.
        base: what their rows start from.
        seeds: of the rows, by the experiment's name.
    """
    return {
        trial_id: trial
        for experiment in experiments
        for trial_id, (_, trial) in experiment.trials(base, seeds[experiment.name]).items()
    }


def seeds_by_row(seeds: Seeds, rows: int) -> list[Sequence[int]]:
    """The seeds of each of so many rows, in their order."""
    return [seeds[row] if isinstance(seeds, Mapping) else seeds for row in range(rows)]


def with_fields(config: TrialConfig, section: str, **fields: Any) -> TrialConfig:
    """The same with other fields of one section."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


def identified(config: TrialConfig, data: Inputs = NOT_FOUND_YET) -> Trial:
    """The trial of a configuration, with the fingerprints of what its model reads from files.

    Args:
        config: as it was given.
        data: what is known of its data.

    Raises:
        WeightsError: a file of weights is not there.
        ModuleError: the model's own module is not there.
    """
    model = with_absolute_paths(config.model)
    inputs = dataclasses.replace(
        data,
        weights=identify_weights(model),
        detector_weights=identify_detector_weights(model),
        module=identify_module(model),
    )
    return Trial(dataclasses.replace(config, model=model), inputs)


def check_not_set(base: TrialConfig, scale_base: TrialConfig, paths: Sequence[str], command: str) -> None:
    """Refuse a value that a command sets itself.

    Raises:
        ConfigError: naming the field.
    """
    for path in paths:
        if field_value(base, path) != field_value(scale_base, path):
            raise ConfigError(
                f"{path}: {field_value(base, path)!r} has no effect, {command} sets this field itself; "
                "leave it out, or use the command `train`"
            )


def field_value(config: Any, path: str) -> Any:
    """The value of a field such as `dynamic.dla`."""
    for name in path.split("."):
        config = getattr(config, name)
    return config
