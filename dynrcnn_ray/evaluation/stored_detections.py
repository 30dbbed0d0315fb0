"""Detections as a store holds them, for the evaluation."""

import pandas as pd

from dynrcnn_ray.evaluation.matching import DetectionArrays


def as_arrays(rows: pd.DataFrame) -> DetectionArrays:
    """Stored detections, columns as in `schemas.DETECTIONS`, for the evaluation."""
    return DetectionArrays(
        image_ids=rows["image_id"].to_numpy(),
        category_ids=rows["category_id"].to_numpy(),
        scores=rows["score"].to_numpy(),
        boxes=rows[["x1", "y1", "x2", "y2"]].to_numpy(),
    )
