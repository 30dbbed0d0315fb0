"""The columns that tell how far the workers of a trial drift apart."""

DRIFT = {
    "apart_T_now": "IoU",
    "apart_beta_now": "normalised offset",
    "from_one_T_now": "IoU",
    "from_one_beta_now": "normalised offset",
}
"""Columns of a table that asks for them, with their units. `apart_*`: the largest minus the smallest value over the
workers, mean over the updates. `from_one_*`: the mean absolute difference, over updates and workers, from the row's
baseline, a trial of one worker with the same seed."""
WORKERS, ALL_REDUCE = "Workers", "All-reduce"
"""The label columns that tell rows apart by their number of workers and by the all-reduce."""
