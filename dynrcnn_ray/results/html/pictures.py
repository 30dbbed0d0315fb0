"""Detections over validation images: the image once as a data URI, boxes as SVG rectangles above it."""

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

_MIN_SCORE = 0.5
_TRUTH, _DETECTION = "#ffffff", "#ff9f1c"


def pictures_html(images: pd.DataFrame, detections: Mapping[str, pd.DataFrame]) -> str:
    """Each image with its ground truth (dashed) and the detections of each trial (solid), one picture a trial.

    Args:
        images: rows as in `schemas.IMAGES`.
        detections: rows as in `schemas.DETECTIONS` of each trial, by the name to show.
    """
    figures = []
    for image in images.to_dict("records"):
        for name, of_trial in detections.items():
            shown = (of_trial["image_id"] == image["image_id"]) & (of_trial["score"] >= _MIN_SCORE)
            of_image = of_trial.loc[shown, :]
            figures.append(_picture(image, name, of_image))
    return (
        f'<p class="soft">Dashed white: ground truth. Orange: detections with a score of {_MIN_SCORE} or more, with '
        f'class and score.</p><div class="pictures">{"".join(figures)}</div>'
    )


def _picture(image: dict[Any, Any], name: str, detections: pd.DataFrame) -> str:
    width, height = image["width"], image["height"]
    stroke = max(width, height) / 150
    names = dict(image["category_names"])
    data = base64.b64encode(image["jpeg"]).decode()
    shapes = [
        f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    ]
    for box in image["boxes"]:
        shapes.append(_rectangle(box, _TRUTH, stroke, dashed=True))
    for row in detections.to_dict("records"):
        box = [row[side] for side in ("x1", "y1", "x2", "y2")]
        shapes.append(_rectangle(box, _DETECTION, stroke))
        label = f"{names.get(row['category_id'], row['category_id'])} {row['score']:.2f}"
        shapes.append(_label(label, box, size=max(width, height) / 24))
    caption = f"{name}: {image['file_name']}, {len(image['boxes'])} objects, {len(detections)} detections"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(caption)}">{"".join(shapes)}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _rectangle(box: Any, colour: str, stroke: float, *, dashed: bool = False) -> str:
    left, top, right, bottom = (float(side) for side in box)
    dash = f' stroke-dasharray="{3 * stroke:.1f}"' if dashed else ""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" fill="none" '
        f'stroke="{colour}" stroke-width="{stroke:.2f}"{dash}/>'
    )


def _label(text: str, box: Any, size: float) -> str:
    left, top = float(box[0]), max(float(box[1]) - size * 0.25, size)
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size:.1f}" fill="{_DETECTION}" stroke="#000000" '
        f'stroke-width="{size / 5:.2f}" paint-order="stroke">{escape(text)}</text>'
    )
