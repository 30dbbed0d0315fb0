"""What a driver hears of Ray Train's workers, and when it ends a training that Ray Train would begin anew."""

import contextlib
import time
from typing import Any

from ray.exceptions import RayActorError

from dynrcnn_ray.config.errors import innermost_line
from dynrcnn_ray.execution.failures import TrialFailure, first_failure
from dynrcnn_ray.execution.tune_private import ControllerCallback, TuneReports, failed_start, is_running

_POLL_SECONDS = 0.05


class Reports(TuneReports):
    """What workers report goes to Tune; the loss of a worker too, which nobody would else see while the trial waits."""

    _last_reason = ""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Hand on what the first worker reported."""
        self._last_reason = ""
        super().after_report(run_context, metrics, checkpoint)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Say why workers ended, once. An error in a callback ends the training: Ray Train knows no other way."""
        failure = first_failure(worker_exceptions)
        if failure.would_repeat:
            raise failure
        # While a node is being taken back, Ray Train calls this at each of its polls.
        if failure.reason != self._last_reason:
            super().after_report(run_context, [{"note": f"interrupted: {failure.reason}"}], None)
        self._last_reason = failure.reason

    def wait_until_taken(self) -> None:
        """After the training: wait until Tune has the workers' last report, before the driver reports itself.

        Tune's session hands a worker's report on through the queue in which the driver's own would then stand, and
        whose only reader it is: the two at once would wait for each other for ever. An empty report it hands on to
        nobody, and it takes that one when it is done with the report before.
        """
        # The queue is an actor: one that died with its node hands nothing on.
        with contextlib.suppress(RayActorError):
            self.queue.put({})
            while not self.queue.empty():
                time.sleep(_POLL_SECONDS)


class FailedStarts(ControllerCallback):
    """Ends a training whose workers end again and again while they start.

    Ray Train counts these as it counts the minutes in which no node had a place, and of those it may take very many.
    """

    def __init__(self, at_most: int) -> None:
        """Take so many in a row."""
        self._at_most = at_most
        self._in_a_row = 0

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Count, from the states between which Ray Train's controller goes."""
        if cause := failed_start(current_state):
            self._in_a_row += 1
            if self._in_a_row > self._at_most:
                raise TrialFailure(
                    f"workers ended while they started, {self._in_a_row} times in a row: "
                    f"{innermost_line(cause.__cause__ or cause)}",
                    str(cause),
                )
        elif is_running(current_state):
            self._in_a_row = 0
