"""A detection data set in COCO format, read from disk.

`layout` says where its files are.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_utils
from torch import Tensor
from torch.utils.data import Dataset

from dynrcnn_ray.config.errors import system_line
from dynrcnn_ray.data.annotations import (
    DataError,
    cache_folder,
    is_of_the_machine,
    is_unlabelled,
    read_annotations,
    unreadable,
)
from dynrcnn_ray.data.check.boxes import clipped_xyxy, has_extent
from dynrcnn_ray.data.check.check_split import Demands, check_annotations
from dynrcnn_ray.data.distortion import distort_colours
from dynrcnn_ray.data.layout import find_split
from dynrcnn_ray.data.orientation import WrongSizeError, read_pixels
from dynrcnn_ray.data.pack import SplitContent, shared_content

Target = dict[str, Any]
_NO_DISTORTION = -1


class Sample(NamedTuple):
    """What a sampler asks of the data set."""

    image_index: int
    """Position of the image in the annotations file."""
    flip: bool
    """Mirror the image left to right."""
    short_side: int = 0
    """Pixels to which the network's input is to be resized; 0 leaves that to the model."""
    colour_seed: int = _NO_DISTORTION
    """Seed of a photometric distortion; below 0 the colours stay."""


class CocoDataset(Dataset[tuple[Tensor, Target]]):
    """Images with their boxes, labels and, on request, masks.

    Annotations are packed into flat arrays once, so that processes share their memory and no item walks JSON: those of
    a large file by all workers of a machine (see `pack`), others by a worker's loaders.
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
        self.annotation_file, self._image_folder = find_split(root, split)
        self.has_annotations = not is_unlabelled(self.annotation_file)
        content = _shared_content(self.annotation_file, include_masks=include_masks)
        self.class_names = content.class_names
        self.category_ids = content.category_ids
        self.image_ids = content.image_ids
        self.file_names = content.file_names
        self.sizes = content.sizes
        self._boxes, self._labels, self._first = content.boxes, content.labels, content.first
        self._packed_masks = _PackedMasks(content.mask_bytes, content.mask_first) if include_masks else None

    @property
    def category_names(self) -> dict[int, str]:
        """Name of each category by its COCO id, ascending."""
        return dict(zip(self.category_ids, self.class_names, strict=True))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def num_objects(self, index: int) -> int:
        """Number of an image's objects, crowds left out."""
        return int(self._first[index + 1] - self._first[index])

    def images_to_train_on(self, *, keep_empty: bool) -> NDArray[np.int64]:
        """Positions of the images with objects, ascending; of all images with `keep_empty`.

        Raises:
            DataError: there is none.
        """
        images = np.arange(len(self)) if keep_empty else np.diff(self._first).nonzero()[0]
        if not len(images):
            raise DataError(
                f"{self.annotation_file}: no image has an object to train on (crowds do not count); "
                "give images with objects, or train on images without with --data.keep-empty-images"
            )
        return images

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Target]:
        """Load one image and its target.

        Returns:
            The image, uint8 `[3, H, W]`, and a target with `boxes` (float32 `[n, 4]`, xyxy pixels), `labels`
            (int64 `[n]`, from 1), `image_index` and `short_side` (int, of the sample) and, on request, `masks`
            (uint8 `[n, H, W]`, 0 or 1).

        Raises:
            DataError: The image is missing, unreadable or not of the annotated size.
        """
        index, flip, short_side, colour_seed = sample
        width, height = self.sizes[index].tolist()
        rows = slice(int(self._first[index]), int(self._first[index + 1]))
        image = self._load_image(index)
        if colour_seed != _NO_DISTORTION:
            image = distort_colours(image, colour_seed)
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
        width, height = self.sizes[index].tolist()
        try:
            pixels = read_pixels(file, width, height)
        except WrongSizeError as error:
            raise DataError(
                f"{file}: image {image_id} is {error} pixels, but {self.annotation_file.name} says {width}x{height}; "
                "correct one of them"
            ) from None
        except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
            if is_of_the_machine(error):
                raise
            restore = f"restore the file or drop the image from {self.annotation_file.name}"
            remedy = "check its permissions" if isinstance(error, PermissionError) else restore
            raise DataError(f"{file}: image {image_id} cannot be read ({system_line(error)}); {remedy}") from None
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _shared_content(file: Path, *, include_masks: bool) -> SplitContent:
    try:
        return shared_content(
            file, cache_folder(), include_masks=include_masks, read=lambda: _read(file, include_masks=include_masks)
        )
    except OSError as error:
        raise unreadable(file, error) from None


def _read(file: Path, *, include_masks: bool) -> SplitContent:
    """Parse a split's annotations and check them.

    Raises:
        DataError: they cannot be used.
    """
    parsed = read_annotations(file)
    checked = check_annotations(file, parsed, Demands(masks=include_masks))
    if checked.errors:
        raise DataError("\n".join(map(str, checked.errors)))
    categories = sorted(checked.categories, key=lambda category: category["id"])
    category_ids: list[int] = [category["id"] for category in categories]
    image_ids: list[int] = [image["id"] for image in checked.images]
    sizes = np.array([(image["width"], image["height"]) for image in checked.images], dtype=np.int64)

    objects = [record for record in checked.annotations if not record.get("iscrowd", 0)]
    image_of_object = _positions(objects, "image_id", image_ids)
    labels = _positions(objects, "category_id", category_ids) + 1
    xywh = np.array([record["bbox"] for record in objects], dtype=np.float64).reshape(-1, 4)
    boxes = clipped_xyxy(xywh, sizes[image_of_object])

    drawable = has_extent(boxes, sizes[image_of_object]).nonzero()[0]
    kept = drawable[np.argsort(image_of_object[drawable], kind="stable")]
    masks: list[bytes] = []
    if include_masks:
        masks = [_encoded_mask(objects[row]["segmentation"], sizes[image_of_object[row]]) for row in kept]
    return SplitContent(
        class_names=[category["name"] for category in categories],
        category_ids=category_ids,
        image_ids=image_ids,
        file_names=[image["file_name"] for image in checked.images],
        sizes=sizes,
        boxes=boxes[kept],
        labels=labels[kept],
        first=np.searchsorted(image_of_object[kept], np.arange(len(image_ids) + 1)),
        mask_bytes=np.frombuffer(b"".join(masks), dtype=np.uint8),
        mask_first=np.cumsum([0, *map(len, masks)]),
    )


def _positions(objects: list[dict[str, Any]], key: str, known_ids: list[int]) -> NDArray[np.int64]:
    position = {known_id: index for index, known_id in enumerate(known_ids)}
    return np.array([position[record[key]] for record in objects], dtype=np.int64)


def _encoded_mask(segmentation: Any, size: NDArray[np.int64]) -> bytes:
    width, height = size.tolist()
    if isinstance(segmentation, list):
        encoded: Any = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
        return encoded["counts"]
    if isinstance(segmentation["counts"], list):
        encoded = mask_utils.frPyObjects(segmentation, height, width)
        return encoded["counts"]
    return segmentation["counts"].encode()


class _PackedMasks:
    """Compressed run lengths of many masks in one array, which loader processes share where a list would be copied."""

    def __init__(self, run_lengths: NDArray[np.uint8], first: NDArray[np.int64]) -> None:
        self._bytes, self._first = run_lengths, first

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
