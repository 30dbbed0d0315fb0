"""Detections over validation images: what stands where."""

import base64
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dynrcnn_ray.report.text_width import shortened, width_of

MIN_SCORE = 0.5
"""Detections below this score are not drawn."""
_LONGEST_NAME = 24
_COLUMN = 0.62
"""Width of a letter, as a part of the font's size."""


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
    rows = detections.to_dict("records")
    boxes = [_box([row[side] for side in ("x1", "y1", "x2", "y2")]) for row in rows]
    labels = _Labels(image["width"], image["height"], font_size)
    for box, row in zip(boxes, rows, strict=True):
        name = str(names.get(row["category_id"], row["category_id"]))
        box |= labels.place(name, row["score"], float(row["x1"]), float(row["y1"]))
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


class _Labels:
    """Texts at the upper left corners of boxes: none leaves the picture, and one does not run over another."""

    def __init__(self, width: int, height: int, font_size: float) -> None:
        self._width, self._height, self._font_size = width, height, font_size
        self._taken: list[tuple[float, float, float]] = []

    def place(self, name: str, score: float, left: float, top: float) -> dict[str, str]:
        """What is written, and where it begins: above the corner, else further down, else from the top on."""
        label = f"{shortened(name, _LONGEST_NAME)} {score:.2f}"
        width = width_of(label) * _COLUMN * self._font_size
        x = max(0.0, min(left, self._width - width))
        first, line = max(top - self._font_size * 0.25, self._font_size), self._font_size * 1.1
        lines = [*_lines(first, self._height, line), *_lines(self._font_size, first, line)]
        free = (y for y in lines if not any(self._overlap(x, y, width, *other) for other in self._taken))
        y = next(free, first)
        self._taken.append((x, y, width))
        return {"name": name, "label": label, "label_left": f"{x:.1f}", "label_top": f"{y:.1f}"}

    def _overlap(self, x: float, y: float, width: float, other_x: float, other_y: float, other_width: float) -> bool:
        return abs(y - other_y) < self._font_size and x < other_x + other_width and other_x < x + width


def _lines(begin: float, end: float, step: float) -> list[float]:
    return [begin + number * step for number in range(int((end - begin) / step) + 1)]


def _box(corners: Any) -> dict[str, str]:
    left, top, right, bottom = (float(side) for side in corners)
    sides = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {name: f"{value:.1f}" for name, value in sides.items()}
