"""The evaluation of a trained trial as one more trial of a grid: on its workers and their GPUs, with progress lines.

The first worker's detections come back through the storage, as the file that the COCO server takes:
`<storage>/evaluations/detections_<split>_<trial_id>_results.json`, with `<trial_id>-best` for the best checkpoint's and
`<trial_id>-500` for that of a step. A split of another folder than the trial's
own has a few digits of its annotations' hash there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune

from dynrcnn_ray.config.errors import DynrcnnError
from dynrcnn_ray.config.sections import CheckpointName
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.evaluation.results_file import results_bytes
from dynrcnn_ray.execution.checkpoints import CheckpointFolder, agreed_content, decode
from dynrcnn_ray.execution.driver import fit
from dynrcnn_ray.execution.failures import failure_of
from dynrcnn_ray.execution.trials import run_one
from dynrcnn_ray.execution.worker import this_worker
from dynrcnn_ray.store.files import StoreFiles
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.training.inference import detect_all, metrics_of
from dynrcnn_ray.training.state import load_trained


class EvaluationFailedError(DynrcnnError, RuntimeError):
    """An evaluation that did not end. Its text is one line."""

    would_repeat = False


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and where.

    Attributes:
        trial: the trial with the data's folder, the testing protocol and the workers of this evaluation.
        trial_id: the trained trial, for people and for the file's name.
        training_id: whose checkpoint it is.
        split: the split to detect on.
        storage: the store's absolute path or URI.
        checkpoint: which of the trial's.
        other_data: tells the file of a split in another folder, which may have the name of one of the trial's; empty
            for the trial's own data.
    """

    trial: Trial
    trial_id: str
    training_id: str
    split: str
    storage: str
    checkpoint: CheckpointName = "last"
    other_data: str = ""
    setting = "evaluation"
    trains = False

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration, with the workers of this evaluation."""
        return self.trial.config

    @property
    def starts(self) -> str:
        """What the line of its start says."""
        return f"starts: detects on {self.split} by trial {self.trial_id}"

    @property
    def results_file(self) -> str:
        """The results file, relative to the storage."""
        return f"evaluations/{self.file_name}"

    @property
    def file_name(self) -> str:
        """The name of the results file."""
        which = "" if self.checkpoint == "last" else str(self.checkpoint)
        algorithm = "-".join(part for part in (self.trial_id, which, self.other_data) if part)
        return f"detections_{self.split}_{algorithm}_results.json"


def run_evaluation(evaluation: Evaluation) -> dict[str, float | None]:
    """Detect on the cluster and leave the results file in the storage.

    Returns:
        Average precision in percent by name; nothing for a split without annotations.

    Raises:
        ConfigError: the cluster is too small for its workers.
        EvaluationFailedError: saying why.
    """
    ended = run_one(drive_evaluation, evaluation)
    if "metrics" not in ended:
        raise EvaluationFailedError(ended["ending"])
    return ended["metrics"]


def drive_evaluation(evaluation: Evaluation) -> None:
    """Have the workers detect; then write the results file and report the metrics."""
    try:
        outcome = fit(evaluation.trial, _evaluate_worker, {"evaluation": evaluation})
        store = ResultStore.open(evaluation.storage)
        store.files.write_bytes(evaluation.results_file, results_bytes(outcome["detections"]))
    except Exception as error:  # Whatever the workers or the storage raised; nothing of it is left but this line.
        tune.report({"ending": failure_of(error).reason})
        return
    tune.report({"ending": "finished", "metrics": outcome["metrics"]})


def _evaluate_worker(payload: dict[str, Any]) -> dict[str, Any]:
    evaluation: Evaluation = payload["evaluation"]
    config = evaluation.config
    worker, report = this_worker(config)
    folder = CheckpointFolder(StoreFiles.open(evaluation.storage), evaluation.training_id)
    dataset = CocoDataset(evaluation.trial.inputs.data_root, evaluation.split)
    content = agreed_content(folder, evaluation.checkpoint, last_step=config.total_steps, worker=worker)
    model = load_trained(evaluation.trial, len(dataset.class_names), worker, decode(content), evaluation.training_id)
    detections = detect_all(config, model, dataset, worker, on_tenth=_progress(report, len(dataset)))
    has_metrics = worker.is_first and dataset.has_annotations
    metrics = metrics_of(config, dataset, detections) if has_metrics else {}
    return {"metrics": metrics, "detections": detections}


def _progress(report: Callable[[dict[str, Any]], None], num_images: int) -> Callable[[int], None]:
    """Report each tenth of the images, with the speed of all workers and the time that is left."""
    started = time.perf_counter()

    def tell(tenth: int) -> None:
        rate = num_images * tenth / 10 / (time.perf_counter() - started)
        left = round(num_images * (10 - tenth) / 10 / rate)
        report({"progress": f"{num_images * tenth // 10}/{num_images} images  {rate:.1f} images/s  left {left}s"})

    return tell
