"""What the all-reduce over the workers changes (Section 4, Algorithm 1); the paper has no such table.

In the public implementations each GPU follows the T_now and beta_now of its own images; the paper's authors wanted to
share them and never did. Rows: one worker; 2, 4 and 8 workers with and without the all-reduce; by the conventions
`paper` and `released`, with the scale's C and a fifth of it. The workers divide the same global batch, so their
number must divide it.

The number of workers counts in the ids of these trials, also where it should not matter: that all splits follow the
same T_now and beta_now is a result here, and is measured.

The workers of a trial on CPUs share the cores of one worker, so that eight run on a laptop; on GPUs each has its own.

Two figures besides: every worker's T_now and beta_now, and up to 1,024 workers, simulated from the I_k and E_k that the
first row recorded.

Cost: 28 trials a seed, none of another table; at scale smoke, whose batch eight workers cannot divide, 20.

Command:  dynrcnn sync [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row, with_fields
from dynrcnn_ray.paper.protocols import dynamic
from dynrcnn_ray.report.drift_columns import ALL_REDUCE, DRIFT, WORKERS
from dynrcnn_ray.store.labels import CHECK

CONVENTIONS = ("paper", "released")
MANY_WORKERS = (2, 4, 8)


def rows(base: TrialConfig) -> list[Row]:
    """One worker, then many with and without the all-reduce; so for each convention and each C."""
    own = base.dynamic.update_interval
    intervals = tuple(dict.fromkeys((own, max(1, round(own / 5)))))
    rows: list[Row] = []
    for convention in CONVENTIONS:
        for interval in intervals:
            config = with_fields(dynamic(base), "dynamic", convention=convention, update_interval=interval)
            rows += _rows_of_workers(config, first=len(rows))
    # The simulation draws from what this row's images measured.
    assert rows[0].config
    rows[0] = dataclasses.replace(rows[0], config=with_fields(rows[0].config, "run", record_statistics=True))
    return rows


def _rows_of_workers(config: TrialConfig, first: int) -> list[Row]:
    """One worker, the row `first`, which is the baseline of the others."""
    numbers = [number for number in MANY_WORKERS if config.train.global_batch % number == 0]
    settings = [(1, True), *((number, shared) for number in numbers for shared in (True, False))]
    return [_row(config, number, shared, baseline=first) for number, shared in settings]


def _row(config: TrialConfig, num_workers: int, all_reduce: bool, baseline: int) -> Row:
    run = config.run
    run = dataclasses.replace(
        run,
        num_workers=num_workers,
        min_workers=0,
        cpus_per_worker=run.cpus_per_worker if run.gpu else run.cpus_per_worker / num_workers,
        log_every=config.dynamic.update_interval,
        distinct_by_workers=True,
    )
    return Row(
        labels={
            "Convention": config.dynamic.convention,
            "C": str(config.dynamic.update_interval),
            WORKERS: str(num_workers),
            ALL_REDUCE: CHECK if all_reduce and num_workers > 1 else "",
        },
        config=dataclasses.replace(with_fields(config, "dynamic", all_reduce=all_reduce), run=run),
        reported={},
        baseline=baseline,
    )


EXPERIMENT = Experiment(
    name="sync",
    reference="Algorithm 1",
    title="What the all-reduce over the workers changes (not in the paper)",
    metrics=(*METRICS_BY_IOU, *DRIFT),
    overrides=(
        "dynamic.dla",
        "dynamic.dsl",
        "dynamic.convention",
        "dynamic.all_reduce",
        "run.num_workers",
        "run.min_workers",
        "run.log_every",
        "run.record_statistics",
        "run.distinct_by_workers",
    ),
    figures="dynrcnn_ray.paper.drawings.sync",
    rows=rows,
)
