"""Detections over validation images: what stands where."""

import base64
from collections.abc import Mapping
from typing import Any

import pandas as pd

MIN_SCORE = 0.5
"""Detections below this score are not drawn."""


def pictures_of(images: pd.DataFrame, detections: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Each image with its ground truth and the detections of each trial, one picture a trial.

    Args:
        images: rows as in `schemas.IMAGES`.
        detections: rows as in `schemas.DETECTIONS` of each trial, by the name to show.

    Returns:
        What `templates/detections.html` draws.
    """
    pictures = []
    for image in images.to_dict("records"):
        for name, of_trial in detections.items():
            shown = (of_trial["image_id"] == image["image_id"]) & (of_trial["score"] >= MIN_SCORE)
            pictures.append(_picture(image, name, of_trial.loc[shown, :]))
    return pictures


def _picture(image: dict[Any, Any], name: str, detections: pd.DataFrame) -> dict[str, Any]:
    long_side = max(image["width"], image["height"])
    stroke, font_size = long_side / 150, long_side / 24
    names = dict(image["category_names"])
    boxes = []
    for row in detections.to_dict("records"):
        box = _box([row[side] for side in ("x1", "y1", "x2", "y2")])
        label = f"{names.get(row['category_id'], row['category_id'])} {row['score']:.2f}"
        boxes.append(box | {"label": label, "label_top": f"{max(float(row['y1']) - font_size * 0.25, font_size):.1f}"})
    return {
        "width": image["width"],
        "height": image["height"],
        "data": f"data:image/jpeg;base64,{base64.b64encode(image['jpeg']).decode()}",
        "caption": f"{name}: {image['file_name']}, {len(image['boxes'])} objects, {len(detections)} detections",
        "truths": [_box(box) for box in image["boxes"]],
        "detections": boxes,
        "stroke": f"{stroke:.2f}",
        "dash": f"{3 * stroke:.1f}",
        "font_size": f"{font_size:.1f}",
        "outline": f"{font_size / 5:.2f}",
    }


def _box(corners: Any) -> dict[str, str]:
    left, top, right, bottom = (float(side) for side in corners)
    sides = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {name: f"{value:.1f}" for name, value in sides.items()}
