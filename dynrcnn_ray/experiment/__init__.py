"""What an experiment, a sweep and a search space are."""

from dynrcnn_ray.experiment.experiment import METRICS_BY_IOU, METRICS_BY_SIZE, Experiment, Row

__all__ = ["METRICS_BY_IOU", "METRICS_BY_SIZE", "Experiment", "Row"]
