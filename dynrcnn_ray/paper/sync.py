"""What the all-reduce changes (Section 4, Algorithm 1); the paper has no such table.

In the public implementations each GPU follows the T_now and beta_now of its own images; the paper's authors wanted to
share them and never did. A shard takes a GPU's part here. Rows: one shard; 2, 4 and 8 shards with and without the
all-reduce; by the conventions `paper` and `released`, with the scale's C and a fifth of it. The shards divide the same
global batch, so their number must divide it.

All rows of a number of shards draw the same images and RoIs in each step, on one worker: a row without the all-reduce
is held against the one with it, and differs from it in what T_now and beta_now follow alone.

Two figures besides: every shard's T_now and beta_now, and up to 1,024 shards, simulated from the I_k and E_k that the
first row recorded.

Cost: 28 trials a seed, of which Table 3 has one; at scale smoke, whose batch eight shards cannot divide, 20.

Command:  dynrcnn sync [--scale smoke|mini|coco] [--seeds 0 1 2]
"""

import dataclasses

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, Experiment, Row, with_fields
from dynrcnn_ray.paper.protocols import dynamic
from dynrcnn_ray.report.drift_columns import ALL_REDUCE, DRIFT, SHARDS
from dynrcnn_ray.store.labels import CHECK

CONVENTIONS = ("paper", "released")
MANY_SHARDS = (2, 4, 8)


def rows(base: TrialConfig) -> list[Row]:
    """One shard, then many with and without the all-reduce; so for each convention and each C."""
    own = base.dynamic.update_interval
    intervals = tuple(dict.fromkeys((own, max(1, round(own / 5)))))
    rows: list[Row] = []
    for convention in CONVENTIONS:
        for interval in intervals:
            config = with_fields(dynamic(base), "dynamic", convention=convention, update_interval=interval)
            rows += _rows_of_shards(config, first=len(rows))
    # The simulation draws from what this row's images measured.
    assert rows[0].config
    rows[0] = dataclasses.replace(rows[0], config=with_fields(rows[0].config, "run", record_statistics=True))
    return rows


def _rows_of_shards(config: TrialConfig, first: int) -> list[Row]:
    """One shard, the row `first`, with which those with the all-reduce are compared; and those without, with these."""
    rows = [_row(config, 1, all_reduce=True, baseline=first)]
    for number in MANY_SHARDS:
        if config.train.global_batch % number == 0:
            shared = first + len(rows)
            rows.append(_row(config, number, all_reduce=True, baseline=first))
            rows.append(_row(config, number, all_reduce=False, baseline=shared))
    return rows


def _row(config: TrialConfig, shards: int, *, all_reduce: bool, baseline: int) -> Row:
    config = with_fields(config, "dynamic", all_reduce=all_reduce)
    config = with_fields(config, "train", shards=shards)
    return Row(
        labels={
            "Convention": config.dynamic.convention,
            "C": str(config.dynamic.update_interval),
            SHARDS: str(shards),
            ALL_REDUCE: CHECK if all_reduce and shards > 1 else "",
        },
        config=with_fields(config, "run", num_workers=1, min_workers=0, log_every=config.dynamic.update_interval),
        reported={},
        baseline=baseline,
    )


EXPERIMENT = Experiment(
    name="sync",
    reference="Algorithm 1",
    title="What the all-reduce changes (not in the paper)",
    metrics=(*METRICS_BY_IOU, *DRIFT),
    overrides=(
        "dynamic.dla",
        "dynamic.dsl",
        "dynamic.convention",
        "dynamic.all_reduce",
        "train.shards",
        "run.num_workers",
        "run.min_workers",
        "run.log_every",
        "run.record_statistics",
    ),
    figures="dynrcnn_ray.paper.drawings.sync",
    rows=rows,
)
