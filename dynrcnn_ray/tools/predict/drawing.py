"""Detections drawn over a picture, by supervision."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrcnn_ray.config.extras import import_extra

_QUALITY = 90


class Painter:
    """Draws boxes, masks, and class and score of each detection."""

    def __init__(self, category_names: dict[int, str]) -> None:
        """Import supervision.

        Args:
            category_names: name of each category by its id.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        self._supervision = import_extra("supervision", "predict")
        self._names = category_names
        # Colours follow the classes.
        self._position = {category: at for at, category in enumerate(sorted(category_names))}

    def draw(
        self,
        pixels: NDArray[np.uint8],
        boxes: NDArray[np.floating],
        scores: NDArray[np.floating],
        category_ids: NDArray[np.int64],
        masks: NDArray[np.bool_] | None,
    ) -> bytes:
        """The picture as a JPEG file.

        Args:
            pixels: RGB `[H, W, 3]`.
            boxes: `[n, 4]`, xyxy pixels.
            scores: `[n]`.
            category_ids: `[n]`.
            masks: `[n, H, W]`, where the model predicts them.
        """
        sv: Any = self._supervision
        image = Image.fromarray(pixels)
        if len(scores):
            classes = np.array([self._position[category] for category in category_ids.tolist()])
            detections = sv.Detections(xyxy=boxes.astype(np.float32), confidence=scores, class_id=classes, mask=masks)
            labels = [
                f"{self._names[category]} {score:.2f}"
                for category, score in zip(category_ids.tolist(), scores.tolist(), strict=True)
            ]
            thickness = sv.calculate_optimal_line_thickness(resolution_wh=image.size)
            scale = sv.calculate_optimal_text_scale(resolution_wh=image.size)
            if masks is not None:
                image = sv.MaskAnnotator().annotate(image, detections)
            image = sv.BoxAnnotator(thickness=thickness).annotate(image, detections)
            image = sv.LabelAnnotator(text_scale=scale, text_padding=3).annotate(image, detections, labels)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY)
        return stream.getvalue()
