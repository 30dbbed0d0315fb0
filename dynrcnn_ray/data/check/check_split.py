"""A COCO annotations file as it was found, as records that can be used: converted, with notes and errors.

Every record is looked at, each problem gets one line, and each record is named by the first problem that it has. What
converts or can be mended without loss is used, with a note; what remains after all refusals can be trained on and
measured with. Fields that a run does not read are not judged. Hundreds of thousands of records take seconds: records
are compared as columns, one by one only where a column holds something odd.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynrcnn_ray.data.absent_split import remedy_for_absent_split
from dynrcnn_ray.data.annotations import DataError, InaccessibleError, is_unlabelled, read_annotations
from dynrcnn_ray.data.check.boxes import ImageSizes, check_boxes, clipped_xyxy, has_extent, note_repeated_objects
from dynrcnn_ray.data.check.categories import (
    check_categories,
    note_root_categories,
    root_categories,
    used_categories,
)
from dynrcnn_ray.data.check.faults import Fault, Records
from dynrcnn_ray.data.check.fields import (
    check_crowds,
    check_images,
    check_input_sizes,
    check_own_ids,
    check_references,
    check_required,
)
from dynrcnn_ray.data.check.masks import check_masks
from dynrcnn_ray.data.image_files import ImageFile
from dynrcnn_ray.data.layout import SplitFiles, canonical_files


@dataclass(frozen=True)
class Demands:
    """What a split is for.

    Attributes:
        masks: Every object needs a mask.
        evaluated: Average precision is measured on it.
        long_side: The lowest limit of the long side at which its images enter the network, in pixels; 0: not known.
    """

    masks: bool = False
    evaluated: bool = False
    long_side: int = 0


class Objects(NamedTuple):
    """The objects of a split.

    Attributes:
        boxes: `[n, 4]`, xyxy pixels within the image.
        image_of: position of each object's image, `[n]`.
        image_sizes: width and height of each image, `[num_images, 2]`.
    """

    boxes: NDArray[np.float32]
    image_of: NDArray[np.int64]
    image_sizes: NDArray[np.int64]


@dataclass(frozen=True)
class CheckedSplit:
    """A split's annotations that can be used, and what is wrong with the others.

    Attributes:
        file: The annotations file.
        faults: Errors and notes.
        content: The file's content as parsed; None if it could not be.
        images: The images that can be used, converted.
        annotations: The annotations that can be used, converted. Those of an image that cannot be used are not among
            them.
        categories: The categories, converted.
        image_rows: Positions of the images in the file's list, ascending.
        annotation_rows: Positions of the annotations in the file's list, ascending.
        is_changed: Whether a record that can be used is not as in the file, or a category is left out.
        files: The images' files, once `check_images` has found them.
    """

    file: Path
    faults: list[Fault]
    content: dict[str, Any] | None
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    image_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    annotation_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    is_changed: bool = False
    files: list[ImageFile] = field(default_factory=list)

    @property
    def errors(self) -> list[Fault]:
        """The faults that are more than notes."""
        return [fault for fault in self.faults if fault.is_error]

    @cached_property
    def objects(self) -> Objects:
        """The objects that can be used: crowds and boxes without extent are none."""
        position = {image["id"]: index for index, image in enumerate(self.images)}
        image_of = np.array([position[record["image_id"]] for record in self.annotations], dtype=np.int64)
        sizes = np.array([(image["width"], image["height"]) for image in self.images], dtype=np.int64).reshape(-1, 2)
        xywh = np.array([record["bbox"] for record in self.annotations], dtype=np.float64).reshape(-1, 4)
        boxes = clipped_xyxy(xywh, sizes[image_of])
        counts = has_extent(boxes, sizes[image_of]) & ~self.crowds()
        return Objects(boxes[counts], image_of[counts], sizes)

    @cached_property
    def objects_per_image(self) -> NDArray[np.int64]:
        """Objects of each image that can be used, `[num_images]`."""
        return np.bincount(self.objects.image_of, minlength=len(self.images))

    def num_objects(self) -> int:
        """Objects that can be used."""
        return int(self.objects_per_image.sum())

    def crowds(self) -> NDArray[np.bool_]:
        """Which annotations are crowds, `[num_annotations]`."""
        return np.array([record.get("iscrowd", 0) for record in self.annotations], dtype=bool)


def check_splits(
    files: Mapping[str, SplitFiles], splits: Mapping[str, Demands], *, used_elsewhere: Collection[int] = ()
) -> dict[str, CheckedSplit]:
    """Check the annotations files of splits that belong together. Images are not looked at: see `check_images`.

    Args:
        files: Where they are, by name.
        splits: Their names, and what they are for.
        used_elsewhere: Ids of categories that are classes, whether these splits use them or not.
    """
    contents: dict[Path, dict[str, Any] | Fault] = {}
    for split in splits:
        file = files[split].annotations
        try:
            contents[file] = read_annotations(file)
        except DataError as error:
            problem, _, remedy = str(error).removeprefix(f"{file}: ").rpartition("; ")
            if files[split] == canonical_files(file.parents[1], split) and not file.exists():
                remedy = remedy_for_absent_split(file.parents[1], split) or remedy
            contents[file] = Fault(file, "file", problem, remedy, may_be_whole=isinstance(error, InaccessibleError))
    used = set(used_elsewhere).union(
        *(used_categories(found) for found in contents.values() if isinstance(found, dict))
    )
    checked: dict[str, CheckedSplit] = {}
    for split, demands in splits.items():
        file = files[split].annotations
        content = contents[file]
        if isinstance(content, Fault):
            checked[split] = CheckedSplit(file, [content], None)
            continue
        checked[split] = check_annotations(file, content, demands, roots=root_categories(content, used))
        if not is_unlabelled(file) and not checked[split].num_objects():
            checked[split].faults.extend(_why_no_objects(checked[split]))
    return checked


def check_annotations(
    file: Path, content: dict[str, Any], demands: Demands, *, roots: Mapping[int, str] | None = None
) -> CheckedSplit:
    """Check what `read_annotations` has read.

    Args:
        file: Where it was read.
        content: What it holds.
        demands: What the split is for.
        roots: Categories to leave out, and what they are instead of classes.
    """
    roots = roots or {}
    categories = Records(file, "category", content["categories"])
    images = Records(file, "image", content["images"])
    annotations = Records(file, "annotation", content["annotations"])
    check_required(categories, "category")
    check_categories(categories, left_out=roots.keys())
    check_required(images, "image")
    check_images(images)
    check_input_sizes(images, demands.long_side)
    check_required(annotations, "annotation")
    usable_categories = set(categories.column("id"))
    check_references(annotations, content["images"], content["categories"], usable_categories)
    sizes = ImageSizes(images)
    sizes.keep_known(annotations)
    check_crowds(annotations)
    check_own_ids(annotations, evaluated=demands.evaluated)
    check_boxes(annotations, sizes, evaluated=demands.evaluated)
    note_repeated_objects(annotations, evaluated=demands.evaluated)
    if demands.masks:
        check_masks(annotations, sizes.of(annotations), evaluated=demands.evaluated)
    annotations.note_conversions()

    faults = [*note_root_categories(file, roots), *categories.faults, *images.faults, *annotations.faults]
    if not len(images.rows):
        faults.append(Fault(file, "file", "no image can be used", "correct the problems above", follows=True))
    changed = bool(roots) or any(records.is_changed for records in (categories, images, annotations))
    return CheckedSplit(
        file,
        faults,
        content,
        images.left,
        annotations.left,
        categories.left,
        images.rows,
        annotations.rows,
        is_changed=changed,
    )


def _why_no_objects(checked: CheckedSplit) -> Sequence[Fault]:
    """Why a split has nothing to train on or to measure with; nothing more if an error explains it."""
    if checked.errors and not all(fault.can_be_dropped for fault in checked.errors):
        return ()
    total = len(checked.annotations)
    if not total:
        why = "no object can be used" if checked.errors else "has no objects"
    elif checked.crowds().all():
        why = f"all of the {total} annotations that can be used are crowds (iscrowd 1), which are no objects"
    else:
        why = "all objects that can be used have boxes of (nearly) zero width or height"
    remedy = "a split needs objects to train on or to measure with"
    return (Fault(checked.file, "file", why, remedy, follows=not total and bool(checked.errors)),)
