"""The Parquet schemas of the results store. Each field carries its unit in its metadata, under `b"unit"`."""

import pyarrow as pa

from dynrcnn_ray.store.metrics import MASK_METRICS, METRICS

SCHEMA_VERSION = b"8"
"""Goes up whenever a field is added, or changes its name, type or meaning."""
READABLE_VERSIONS = (b"1", b"2", b"3", b"4", b"5", b"6", b"7", SCHEMA_VERSION)
"""Versions that differ from this one by optional fields alone; a file that lacks those is read with nulls."""
VERSION_KEY = b"dynrcnn_ray.schema_version"
FORMER_NAMES = {"shard_T_now": "worker_T_now", "shard_beta_now": "worker_beta_now"}
"""What fields were called in earlier versions, which had a shard a worker."""


def versioned(fields: list[pa.Field]) -> pa.Schema:
    """A schema that carries the version of this module."""
    return pa.schema(fields, metadata={VERSION_KEY: SCHEMA_VERSION})


def optional(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    """A field that may be null, with its unit."""
    return pa.field(name, kind, nullable=True, metadata={b"unit": unit.encode()})


def required(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    """A field that every row fills, with its unit."""
    return optional(name, kind, unit).with_nullable(False)


_TEXT = pa.string()
_TEXTS = pa.map_(pa.string(), pa.string())
_FLOAT = pa.float64()
_SINGLE = pa.float32()
_INT = pa.int64()

TRIALS = versioned(
    [
        required("trial_id", _TEXT, "text"),
        required("experiment", _TEXT, "text"),
        required("setting", _TEXT, "text"),
        required("seed", _INT, "1"),
        required("scale", _TEXT, "text"),
        required("status", _TEXT, "text"),
        optional("error", _TEXT, "text"),
        optional("traceback", _TEXT, "text"),
        *[optional(metric, _FLOAT, "percent") for metric in (*METRICS, *MASK_METRICS)],
        optional("steps", _INT, "steps"),
        optional("last_good_step", _INT, "steps"),
        optional("startup_seconds", _FLOAT, "seconds"),
        optional("train_seconds", _FLOAT, "seconds"),
        optional("eval_seconds", _FLOAT, "seconds"),
        optional("wall_seconds", _FLOAT, "seconds"),
        optional("train_images_per_second", _FLOAT, "images per second"),
        optional("final_T_now", _FLOAT, "IoU"),
        optional("final_beta_now", _FLOAT, "normalised offset"),
        optional("final_positives", _FLOAT, "RoIs per image"),
        optional("kept_iou_updates", _INT, "updates"),
        optional("kept_beta_updates", _INT, "updates"),
        required("num_workers", _INT, "workers"),
        optional("workers_at_end", _INT, "workers"),
        required("config", _TEXT, "YAML"),
        optional("git_commit", _TEXT, "text"),
        optional("packages", _TEXTS, "version by package name"),
        optional("hardware", _TEXT, "text"),
        required("finished_at", pa.timestamp("us", tz="UTC"), "UTC"),
    ]
)
"""A finished or failed trial, one row a file. `status` is "finished" or "failed"; `error` is the reason of a failure in
one line, `traceback` all of it; `experiment` and `setting` are those that first ran it; `kept_*_updates` counts updates
of Algorithm 1 that kept the old value: no image had a positive proposal, or, of beta_now, the median error was zero.
`startup_seconds` go from the start of the trial's driver to its first step. `last_good_step` is that of the newest
checkpoint of a failed trial. `train_seconds` are those of the steps, over all attempts. `num_workers` were asked for,
`workers_at_end` trained the last step: an elastic trial may end with fewer.

A trial that runs has such a row in `running/`, of the status "running", written at its start and at each checkpoint:
`finished_at` is when it was written, `last_good_step` the checkpoint's. Where it was killed, the store reads its status
as "stalled": see `stalled.py`."""

STATUSES = ("finished", "running", "stalled", "failed")
"""All that the status of a trial's row, as the store reads it, may be; what tells most of a setting comes first."""

DYNAMICS = versioned(
    [
        required("trial_id", _TEXT, "text"),
        required("step", _INT, "steps"),
        optional("T_now", _FLOAT, "IoU"),
        optional("beta_now", _FLOAT, "normalised offset"),
        optional("iou_threshold", _FLOAT, "IoU"),
        optional("smooth_l1_beta", _FLOAT, "normalised offset"),
        optional("loss", _FLOAT, "1"),
        optional("loss_classifier", _FLOAT, "1"),
        optional("loss_box_reg", _FLOAT, "1"),
        optional("loss_objectness", _FLOAT, "1"),
        optional("loss_rpn_box_reg", _FLOAT, "1"),
        optional("loss_mask", _FLOAT, "1"),
        optional("loss_centerness", _FLOAT, "1"),
        optional("learning_rate", _FLOAT, "1"),
        optional("positives_iou50", _FLOAT, "proposals per image"),
        optional("positives_iou60", _FLOAT, "proposals per image"),
        optional("positives_iou70", _FLOAT, "proposals per image"),
        optional("positives_iou80", _FLOAT, "proposals per image"),
        optional("positives_iou90", _FLOAT, "proposals per image"),
        optional("positives", _FLOAT, "RoIs per image"),
        optional("iou_at_rank", _FLOAT, "IoU"),
        optional("error_at_rank", _FLOAT, "normalised offset"),
        optional("sigma_dx", _FLOAT, "offset"),
        optional("sigma_dy", _FLOAT, "offset"),
        optional("sigma_dw", _FLOAT, "offset"),
        optional("sigma_dh", _FLOAT, "offset"),
        optional("images_per_second", _FLOAT, "images per second"),
        optional("AP", _FLOAT, "percent"),
        optional("shard_T_now", pa.list_(_FLOAT), "IoU"),
        optional("shard_beta_now", pa.list_(_FLOAT), "normalised offset"),
    ]
)
"""One logged step of a trial. `T_now` and `beta_now` are what Algorithm 1 followed in that step, before its update, on
the first shard; `shard_T_now` and `shard_beta_now` hold every shard's. `iou_threshold` and `smooth_l1_beta` were in
force: the same values, or fixed ones where DLA or DSL is off. `positives_iou50` counts the proposals at or above
that IoU, the appended ground truths among them; `positives` the sampled RoIs that are positive at the threshold in
force. `iou_at_rank` and `error_at_rank` are the images' mean I_k and E_k; `sigma_*` the standard deviations of the
offsets (Paper: Eq. 2, not normalised) of the proposals at IoU 0.5. Losses and `positives` are means since the row
before, the others those of the step itself. `AP` is there where checkpoints are evaluated."""

STATISTICS = versioned(
    [
        required("trial_id", _TEXT, "text"),
        required("step", _INT, "steps"),
        required("image", _INT, "1"),
        optional("iou", _SINGLE, "IoU"),
        optional("error", _SINGLE, "normalised offset"),
    ]
)
"""What Algorithm 1 recorded, with `run.record_statistics`, of each image of each step: I_k and E_k, null where nothing
was measured. `image` is the position in the global batch. The conventions `mmdetection` and `released` record once a
shard, at its first image. Steps after the last update are not there."""

_CORNERS = [required(name, _SINGLE, "pixels") for name in ("x1", "y1", "x2", "y2")]

DETECTIONS = versioned(
    [
        required("trial_id", _TEXT, "text"),
        required("image_id", _INT, "id"),
        required("category_id", _INT, "id"),
        required("score", _SINGLE, "1"),
        *_CORNERS,
    ]
)
"""One detection of a finished trial on its validation split; ids are those of the annotations."""

PROPOSALS = versioned(
    [
        required("trial_id", _TEXT, "text"),
        required("step", _INT, "steps"),
        required("iou_threshold", _SINGLE, "IoU"),
        required("smooth_l1_beta", _SINGLE, "normalised offset"),
        required("image", _INT, "1"),
        required("is_ground_truth", pa.bool_(), "1"),
        required("max_iou", _SINGLE, "IoU"),
        *[required(name, _SINGLE, "offset") for name in ("dx", "dy", "dw", "dh")],
        *_CORNERS,
    ]
)
"""One proposal of a training step, at a few steps of a run, from the first shard's images: those at IoU 0.3 or above.
`image` is the position in the shard; corners are pixels of the network's input; the offsets are those towards
the best ground truth (Paper: Eq. 2, not normalised). `is_ground_truth` marks the appended ground truths."""

IMAGES = versioned(
    [
        required("image_id", _INT, "id"),
        required("file_name", _TEXT, "text"),
        required("width", _INT, "pixels"),
        required("height", _INT, "pixels"),
        required("jpeg", pa.binary(), "JPEG"),
        required("boxes", pa.list_(pa.list_(_SINGLE)), "pixels, xyxy"),
        required("box_categories", pa.list_(_INT), "ids"),
        required("category_names", pa.map_(_INT, _TEXT), "name by category id"),
    ]
)
"""One of the first images of a validation split with its ground truth, for pictures of detections. One file for each
data set, by its fingerprint."""

_SPEEDS = [
    required(f"{phase}_{name}", _FLOAT, "images per second")
    for phase in ("training", "inference")
    for name in ("images_per_second", "lower_quartile", "upper_quartile")
]

SPEED = versioned(
    [
        required("backbone", _TEXT, "text"),
        required("model", _TEXT, "text"),
        *_SPEEDS,
        required("inference_images_per_second_paper", _FLOAT, "images per second"),
        required("scale", _TEXT, "text"),
        required("rounds", _INT, "1"),
        required("hardware", _TEXT, "text"),
    ]
)
"""Speed of one model, one image at a time: medians and quartiles over interleaved rounds. The paper's numbers are for
inference on its GPU."""

PLAN = versioned(
    [
        required("experiment", _TEXT, "text"),
        required("title", _TEXT, "text"),
        required("anchor", _TEXT, "text"),
        required("row", pa.int32(), "1"),
        required("labels", _TEXTS, "cell by label column"),
        optional("seed", _INT, "1"),
        optional("trial_id", _TEXT, "text"),
        required("reported", pa.map_(pa.string(), _FLOAT), "percent by metric"),
        required("metrics", pa.list_(_TEXT), "text"),
        optional("metric_prefix", _TEXT, "text"),
        optional("paper_split", _TEXT, "text"),
        optional("baseline_row", pa.int32(), "1"),
        required("scale", _TEXT, "text"),
        required("command", _TEXT, "text"),
    ]
)
"""Which trials make up which row of a table: one line for each row and seed. A row that is only reported by the paper
has one line without a `trial_id`. `anchor` is `Experiment.reference`; `reported` holds the paper's numbers;
`metric_prefix` is "segm_" for a row whose numbers are those of the masks; `paper_split` is where the paper measured:
"minival" or "test-dev"; `baseline_row` is the `row` that differences refer to."""

CLAIMS = versioned(
    [
        required("experiment", _TEXT, "text"),
        required("line", _TEXT, "text"),
        optional("words", _TEXT, "text"),
        required("hash", _TEXT, "text"),
        required("locked_at", pa.timestamp("us", tz="UTC"), "UTC"),
        required("is_afterwards", pa.bool_(), "1"),
        optional("dropped_at", pa.timestamp("us", tz="UTC"), "UTC"),
        required("rows", pa.map_(pa.string(), pa.list_(_TEXT)), "trial ids by row"),
        optional("metric_prefixes", pa.map_(pa.string(), _TEXT), "text by row"),
        required("command", _TEXT, "text"),
    ]
)
"""A claim of one's own, as it was locked when the first trial of the command began that stated it first. `line` is what
is claimed, `words` the same for people; `rows` has for each text of the line that stands for a row its trials' ids,
that with seed 0 first, and `metric_prefixes` what `PLAN` has of them, since boxes and masks are two rows of the same
trials (null in an earlier release). `hash` is of the line, of those first ids and of the prefixes. `is_afterwards`:
when the claim was locked, trials of all rows of one of its contrasts had begun. `dropped_at`: since when a command with
all its rows drops it."""
