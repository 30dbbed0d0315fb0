"""Refuses models that cannot be built before anything trains."""

import sys
from collections.abc import Iterable

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.models.tried_module import require_module
from dynrcnn_ray.models.weights import starts_from_file
from dynrcnn_ray.store.results_store import ResultStore


def require_models(trials: Iterable[Trial], store: ResultStore) -> None:
    """Refuse models whose weights or whose code is not there before anything starts.

    Raises:
        WeightsError: the weights cannot be had.
        ModuleError: the model's own module cannot build it.
        StoreError: the trial that a model starts from is not in the storage.
    """
    for model, trial in {trial.config.model: trial for trial in trials}.items():
        # Imported where there is something to refuse: PyTorch takes seconds, and only trials' processes need it.
        if starts_from_file(model):
            from dynrcnn_ray.models.backbones import note_on_weights

            if note := note_on_weights(model):
                print(note, file=sys.stderr)
        elif model.weights != "none":
            from dynrcnn_ray.models.backbone_weights import read_backbone_weights

            read_backbone_weights(model)
        if model.detector_weights:
            from dynrcnn_ray.execution.starting_weights import require_starting_weights

            require_starting_weights(trial, store)
        if model.module:
            require_module(model, trial.inputs.module)
