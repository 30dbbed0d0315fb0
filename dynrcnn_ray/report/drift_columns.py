"""The columns that tell how far the shards of a trial drift apart."""

DRIFT = {
    "apart_T_now": "IoU",
    "apart_beta_now": "normalised offset",
    "from_baseline_T_now": "IoU",
    "from_baseline_beta_now": "normalised offset",
}
"""Columns of a table that asks for them, with their units. `apart_*`: the largest minus the smallest value over the
shards, mean over the updates. `from_baseline_*`: the mean absolute difference, over updates and shards, from the row's
baseline with the same seed, whose shards follow one T_now and one beta_now."""
SHARDS, ALL_REDUCE = "Shards", "All-reduce"
"""The label columns that tell rows apart by their number of shards and by the all-reduce."""
