"""Losses that grow by orders of magnitude and stay finite: such a training raises no error and has learnt nothing."""

import math
from collections.abc import Iterable, Sequence

from dynrcnn_ray.store.results_store import ResultStore

_TIMES = 100.0
_AT_ANY_STEP = 1000.0
"""No detector starts with a loss near this: untrained classifiers give some ten nats."""
_LEAST = 0.1
"""A smaller loss counts as this: it may well double by one hard image."""


def exploded_at(losses: Sequence[float]) -> int | None:
    """Index of the first loss that is 100 times an earlier one, or beyond what any detector starts with; else None.

    Args:
        losses: of the logged steps, in their order; not finite ones do not count.
    """
    lowest = _AT_ANY_STEP / _TIMES
    for index, loss in enumerate(losses):
        if _TIMES * max(lowest, _LEAST) < loss < float("inf"):
            return index
        lowest = min(lowest, loss)
    return None


def explosion_note(steps: Sequence[int], losses: Sequence[float]) -> str:
    """What to say of a course whose loss explodes; empty for any other. Both arguments as they were logged."""
    index = exploded_at(losses)
    if index is None:
        return ""
    earlier = [loss for loss in losses[:index] if math.isfinite(loss)]
    before = f", from {min(earlier):.4g} before" if earlier else ""
    return (
        f"the loss is {losses[index]:.4g} at step {steps[index]}{before}: the training has diverged, its numbers mean "
        "nothing; lower train.learning_rate, or look at what computes the loss"
    )


def explosions(store: ResultStore, trial_ids: Iterable[str]) -> dict[str, str]:
    """What to say of those trials whose loss exploded, by their id.

    Raises:
        StoreError: a file of the store is damaged, foreign or of another schema version.
    """
    courses = store.dynamics(trial_ids, ["trial_id", "step", "loss"]).sort_values("step").groupby("trial_id")
    notes = {str(name): explosion_note(rows["step"].tolist(), rows["loss"].tolist()) for name, rows in courses}
    return {trial_id: note for trial_id, note in notes.items() if note}
