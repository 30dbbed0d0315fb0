"""A detection data set in COCO format, read from disk.

Layout: images in `<root>/<split>/<file_name>`, annotations in `<root>/annotations/instances_<split>.json`.
"""

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_utils
from torch import Tensor
from torch.utils.data import Dataset

Target = dict[str, Any]


class DataError(ValueError):
    """Data that cannot be used. Its text is one line: the file, the offending id or value, the remedy."""


_REQUIRED_FIELDS = {
    "images": {"id", "file_name", "width", "height"},
    "categories": {"id", "name"},
    "annotations": {"image_id", "category_id", "bbox"},
}


class Sample(NamedTuple):
    """What a sampler asks of the data set."""

    image_index: int
    """Position of the image in the annotations file."""
    flip: bool
    """Mirror the image left to right."""
    short_side: int = 0
    """Pixels to which the network's input is to be resized; 0 leaves that to the model."""


def annotation_path(root: str | Path, split: str) -> Path:
    """Where the annotations of a split are. A split without labels, such as test-dev2017, has an `image_info_` file."""
    folder = Path(root) / "annotations"
    instances, images_alone = folder / f"instances_{split}.json", folder / f"image_info_{split}.json"
    return images_alone if images_alone.is_file() and not instances.is_file() else instances


def is_unlabelled(file: Path) -> bool:
    """Whether a file names images alone."""
    return file.name.startswith("image_info_")


def read_annotations(file: Path) -> dict[str, Any]:
    """Parse a COCO annotations file.

    Raises:
        DataError: the file is missing or not JSON, lacks `images`, `categories` or `annotations`, or the first two
            are empty.
    """
    try:
        parsed = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read ({error.strerror}); check data.root and the name of the split"
        ) from None
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON ({error}); it may be truncated, copy it again") from None
    if not isinstance(parsed, dict):
        raise DataError(f"{file}: holds a {type(parsed).__name__}, not an object; give COCO instance annotations")
    if is_unlabelled(file):
        parsed.setdefault("annotations", [])
    for key in ("images", "categories", "annotations"):
        if not isinstance(parsed.get(key), list):
            raise DataError(f"{file}: has no list '{key}'; give COCO instance annotations")
    for key in ("images", "categories"):
        if not parsed[key]:
            raise DataError(f"{file}: the list '{key}' is empty; at least one is needed")
    for key, fields in _REQUIRED_FIELDS.items():
        for position, record in enumerate(parsed[key]):
            missing = fields - record.keys() if isinstance(record, dict) else fields
            if missing:
                raise DataError(f"{file}: {key}[{position}] has no '{min(missing)}'; COCO asks for {sorted(fields)}")
    return parsed


class CocoDataset(Dataset[tuple[Tensor, Target]]):
    """Images with their boxes, labels and, on request, masks.

    Annotations are packed into flat arrays once, so that loader processes share their memory and no item walks JSON.
    Crowds are dropped: evaluation reads them from `annotation_file`.

    Attributes:
        annotation_file: The annotations as they are on disk.
        has_annotations: Whether the split's objects are known; those of a test split are not.
        class_names: Name of each class; label `l` (from 1) is `class_names[l - 1]`.
        category_ids: COCO category id of each class, ascending; label `l` is `category_ids[l - 1]`.
        image_ids: COCO image id of each image.
        file_names: File name of each image.
        sizes: Width and height of each image in pixels, int64 `[num_images, 2]`.
    """

    def __init__(self, root: str | Path, split: str, *, include_masks: bool = False) -> None:
        """Read the annotations of one split.

        Args:
            root: Folder of the data set.
            split: Name of the split.
            include_masks: Add `masks` to the targets.

        Raises:
            DataError: The annotations cannot be used.
        """
        self.annotation_file = annotation_path(root, split)
        parsed = read_annotations(self.annotation_file)
        self.has_annotations = not is_unlabelled(self.annotation_file)
        categories = sorted(parsed["categories"], key=lambda category: category["id"])
        self.class_names: list[str] = [category["name"] for category in categories]
        self.category_ids: list[int] = [category["id"] for category in categories]
        self.image_ids: list[int] = [image["id"] for image in parsed["images"]]
        self.sizes: NDArray[np.int64] = np.array(
            [(image["width"], image["height"]) for image in parsed["images"]], dtype=np.int64
        )
        self._image_folder = Path(root) / split
        self.file_names: list[str] = [image["file_name"] for image in parsed["images"]]

        objects = [record for record in parsed["annotations"] if not record.get("iscrowd", 0)]
        image_of_object = self._positions(objects, "image_id", self.image_ids)
        labels = self._positions(objects, "category_id", self.category_ids) + 1
        xywh = np.array([record["bbox"] for record in objects], dtype=np.float64).reshape(-1, 4)
        boxes = _clipped_xyxy(xywh, self.sizes[image_of_object])

        drawable = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero()[0]
        kept = drawable[np.argsort(image_of_object[drawable], kind="stable")]
        self._boxes = boxes[kept]
        self._labels = labels[kept]
        # Objects of image i are rows _first[i] to _first[i + 1].
        self._first = np.searchsorted(image_of_object[kept], np.arange(len(self.image_ids) + 1))

        self._packed_masks: _PackedMasks | None = None
        if include_masks:
            encoded = [self._encoded_mask(objects[row], self.sizes[image_of_object[row]]) for row in kept]
            self._packed_masks = _PackedMasks(encoded)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def num_objects(self, index: int) -> int:
        """Number of an image's objects, crowds left out."""
        return int(self._first[index + 1] - self._first[index])

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Target]:
        """Load one image and its target.

        Returns:
            The image, uint8 `[3, H, W]`, and a target with `boxes` (float32 `[n, 4]`, xyxy pixels), `labels`
            (int64 `[n]`, from 1), `image_index` and `short_side` (int, of the sample) and, on request, `masks`
            (uint8 `[n, H, W]`, 0 or 1).

        Raises:
            DataError: The image is missing, unreadable or not of the annotated size.
        """
        index, flip, short_side = sample
        width, height = self.sizes[index].tolist()
        rows = slice(int(self._first[index]), int(self._first[index + 1]))
        image = self._load_image(index)
        # Copies: a target that is changed in place must not change the data set.
        boxes = torch.from_numpy(self._boxes[rows].copy())
        target: Target = {"image_index": int(index), "short_side": short_side}
        target["labels"] = torch.from_numpy(self._labels[rows].copy())
        if flip:
            image = image.flip(-1)
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        target["boxes"] = boxes
        if self._packed_masks is not None:
            masks = self._packed_masks.decode(rows, width, height)
            target["masks"] = masks.flip(-1) if flip else masks
        return image, target

    def _load_image(self, index: int) -> Tensor:
        file = self._image_folder / self.file_names[index]
        image_id = self.image_ids[index]
        try:
            with Image.open(file) as opened:
                pixels = np.array(opened.convert("RGB"))
        except OSError as error:
            raise DataError(
                f"{file}: image {image_id} cannot be read ({error.strerror or error}); "
                f"restore the file or drop the image from {self.annotation_file.name}"
            ) from None
        width, height = self.sizes[index].tolist()
        if pixels.shape[:2] != (height, width):
            raise DataError(
                f"{file}: image {image_id} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but "
                f"{self.annotation_file.name} says {width}x{height}; correct one of them"
            )
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def _positions(self, objects: list[dict[str, Any]], key: str, known_ids: list[int]) -> NDArray[np.int64]:
        position = {known_id: index for index, known_id in enumerate(known_ids)}
        for record in objects:
            if record[key] not in position:
                raise DataError(
                    f"{self.annotation_file}: annotation {record['id']} has the unknown {key} {record[key]}; "
                    "correct or drop it"
                )
        return np.array([position[record[key]] for record in objects], dtype=np.int64)

    def _encoded_mask(self, record: dict[str, Any], size: NDArray[np.int64]) -> bytes:
        width, height = size.tolist()
        segmentation = record.get("segmentation")
        if not segmentation:
            raise DataError(
                f"{self.annotation_file}: annotation {record['id']} has no segmentation; "
                "masks need one for every object"
            )
        if isinstance(segmentation, list):
            encoded: Any = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
            return encoded["counts"]
        if segmentation["size"] != [height, width]:
            raise DataError(
                f"{self.annotation_file}: annotation {record['id']} has a mask of height and width "
                f"{segmentation['size']}, but its image has {[height, width]}; correct one of them"
            )
        if isinstance(segmentation["counts"], list):
            segmentation = mask_utils.frPyObjects(segmentation, height, width)
            return segmentation["counts"]
        return segmentation["counts"].encode()


class _PackedMasks:
    """Compressed run lengths of many masks in one array, which loader processes share where a list would be copied."""

    def __init__(self, encoded: list[bytes]) -> None:
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._first = np.cumsum([0, *map(len, encoded)])

    def decode(self, rows: slice, width: int, height: int) -> Tensor:
        """Masks of some rows, uint8 `[n, H, W]`."""
        if rows.start == rows.stop:
            return torch.zeros((0, height, width), dtype=torch.uint8)
        bounds = self._first[rows.start : rows.stop + 1].tolist()
        encoded: Any = [
            {"size": [height, width], "counts": self._bytes[start:stop].tobytes()}
            for start, stop in itertools.pairwise(bounds)
        ]
        return torch.from_numpy(mask_utils.decode(encoded)).permute(2, 0, 1).contiguous()


def _clipped_xyxy(xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    corners = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    inside = np.clip(corners, 0, sizes[:, None, :])
    return inside.reshape(-1, 4).astype(np.float32)
