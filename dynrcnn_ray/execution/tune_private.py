"""All that is used of Ray Tune and Ray Train and is not their public API, developers' API included.

A minor release may change it, so Ray is pinned to one. What is of Ray's core stands in `ray_private`.
"""

from typing import TYPE_CHECKING, Any

from ray.air._internal import usage
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search import Searcher

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

__all__ = [
    "ControllerCallback",
    "Searcher",
    "Trial",
    "TuneReports",
    "count_no_callbacks",
    "failed_start",
    "is_running",
    "torch_trainer",
    "tune_optuna",
]


class TuneReports(TuneReportCallback):
    """Hands on to Tune what Ray Train's workers report."""

    @property
    def queue(self) -> Any:
        """Where reports stand until Tune's session takes them: an actor's queue of one place."""
        return self._training_actor_item_queue


def torch_trainer(*arguments: Any, **named: Any) -> "TorchTrainer":
    """A `TorchTrainer` that starts no process that is of no use.

    Trials have no data sets of Ray's. What frees the workers' places after the death of Ray Train's controller asks the
    dashboard whether it lives: without one it frees nothing, and its end takes twelve seconds. Its work is done by
    `free_places_of_the_dead`. And nodes are added for the places that a trial waits for; an actor that asks for them
    once more, before the workers start, is of use where their number changes.
    """
    # Imported late, as PyTorch and Ray Data come with it.
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

    class FixedNumber(FixedScalingPolicy):
        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            useless = (DatasetsCallback, PlacementGroupCleanerCallback)
            return [each for each in super()._create_default_callbacks() if not isinstance(each, useless)]

        def _initialize_and_run_controller(self, **named: Any) -> Any:
            if not self.scaling_config.elasticity_enabled:
                named["scaling_policy"] = FixedNumber(self.scaling_config)
            return super()._initialize_and_run_controller(**named)

    return LeanTrainer(*arguments, **named)


def count_no_callbacks() -> None:
    """Keep Tune from counting, for Ray's usage statistics, whose callbacks a run has.

    For that it imports MLflow and others, where they are installed: two seconds.
    """
    usage.tag_callbacks = lambda callbacks: False


def failed_start(state: Any) -> WorkerGroupStartupFailedError | None:
    """Why the workers have ended while they started, of a state of Ray Train's controller; None if they have not."""
    if not isinstance(state, ReschedulingState):
        return None
    cause = getattr(state.training_failed_error, "controller_failure", None)
    return cause if isinstance(cause, WorkerGroupStartupFailedError) else None


def is_running(state: Any) -> bool:
    """Whether a state of Ray Train's controller is that of workers that train."""
    return isinstance(state, RunningState)


def tune_optuna(space: dict[str, Any], **settings: Any) -> Searcher:
    """Optuna under Tune; Optuna must be installed."""
    # Imported late: it imports Optuna, which only a search needs.
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(space, **settings)
