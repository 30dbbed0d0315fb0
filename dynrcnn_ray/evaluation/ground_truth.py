"""The objects of a split as flat arrays, in the order in which the evaluation wants them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils


class GroundTruth(NamedTuple):
    """The objects of a split, ordered by category, then by image, then as in the file.

    Attributes:
        image_ids: `[num_images]`, ascending.
        category_ids: `[num_categories]`, ascending.
        pair: `[num_objects]`, ascending: category position times `num_images` plus image position.
        boxes: float64 `[num_objects, 4]`: x, y, width, height in pixels, as in the file.
        areas: float64 `[num_objects]`, square pixels, as in the file; that of the box where the file has none.
        is_crowd: bool `[num_objects]`.
        segmentations: `[num_objects]`: each object's segmentation as in the file, None where it has none.
        sizes: `[num_objects, 2]`: height and width of the object's image; zeros where the file has none.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    pair: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    segmentations: list[Any]
    sizes: NDArray[np.int64]

    def of_categories(self, start: int, stop: int) -> "GroundTruth":
        """Those of some consecutive categories, by their positions, in all images."""
        num_images = len(self.image_ids)
        rows = slice(*np.searchsorted(self.pair, (start * num_images, stop * num_images)))
        return self._replace(
            category_ids=self.category_ids[start:stop],
            pair=self.pair[rows] - start * num_images,
            boxes=self.boxes[rows],
            areas=self.areas[rows],
            is_crowd=self.is_crowd[rows],
            segmentations=self.segmentations[rows],
            sizes=self.sizes[rows],
        )

    def masks(self) -> list[Any]:
        """Each object's mask as a compressed RLE."""
        return [_as_rle(mask, *size) for mask, size in zip(self.segmentations, self.sizes.tolist(), strict=True)]


def read_ground_truth(annotation_file: Path) -> GroundTruth:
    """Read the annotations of a split. Objects of unknown images or categories are left out, as pycocotools does."""
    parsed = json.loads(annotation_file.read_bytes())
    image_ids = np.unique(np.array([image["id"] for image in parsed["images"]], dtype=np.int64))
    category_ids = np.unique(np.array([category["id"] for category in parsed["categories"]], dtype=np.int64))
    records = parsed["annotations"]
    image, known_image = positions(np.array([record["image_id"] for record in records], np.int64), image_ids)
    category, known_category = positions(
        np.array([record["category_id"] for record in records], np.int64), category_ids
    )
    pair = category * len(image_ids) + image
    known = (known_image & known_category).nonzero()[0]
    order = known[np.argsort(pair[known], kind="stable")]
    records = [records[index] for index in order.tolist()]

    boxes = np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
    areas = [record.get("area", width * height) for record, (_, _, width, height) in zip(records, boxes, strict=True)]
    sizes = {image["id"]: (image.get("height", 0), image.get("width", 0)) for image in parsed["images"]}
    return GroundTruth(
        image_ids=image_ids,
        category_ids=category_ids,
        pair=pair[order],
        boxes=boxes,
        areas=np.array(areas, dtype=np.float64),
        is_crowd=np.array([record.get("iscrowd", 0) for record in records], dtype=bool),
        segmentations=[record.get("segmentation") for record in records],
        sizes=np.array([sizes[record["image_id"]] for record in records], dtype=np.int64).reshape(-1, 2),
    )


def positions(ids: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where ids are among known ones.

    Args:
        ids: `[n]`.
        known: `[k]`, ascending, at least one.

    Returns:
        `[n]` positions, and a bool `[n]`: whether the id is known; the position of an unknown one means nothing.
    """
    position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return position, known[position] == ids


def _as_rle(segmentation: Any, height: int, width: int) -> Any:
    """The mask of polygons, of an uncompressed RLE or of a compressed one."""
    if isinstance(segmentation, list):
        return mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_utils.frPyObjects(segmentation, height, width)
    return segmentation
