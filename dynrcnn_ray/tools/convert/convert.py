"""YOLO and Pascal VOC folders as COCO data sets: labels are read by supervision, written in COCO's layout.

`yolo_folder` and `voc_folder` say where images and labels are.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.foreign_folder import Labelled, names_in_split, note, read_text
from dynrcnn_ray.data.layout import canonical_files
from dynrcnn_ray.data.orientation import View, view
from dynrcnn_ray.data.voc_folder import is_voc, read_voc
from dynrcnn_ray.data.whole_folder import built_beside, refuse_if_it_cannot_be_made
from dynrcnn_ray.data.yolo_folder import YoloFolder, is_yolo, read_yolo

_MOST_PROBLEMS = 10
"""Files that are named before the others are counted."""
_MOST_DIGITS = 15
"""Of a number that is exact as a float, as which some programs hold it."""


class _Objects(NamedTuple):
    """What an image's labels say: supervision's detections, which of them are difficult, and in pixels of which size.

    That size is the upright image's or, where VOC's labels say so, that of the pixels as they are stored.
    """

    detections: Any
    difficult: list[bool]
    size: tuple[int, int]


class _Split(NamedTuple):
    """A split as COCO has it, but for the categories."""

    sources: list[Path]
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]


def convert_to_coco(folder: Path, out: Path) -> dict[str, int]:
    """Convert a data set; its own folder is not written to. Images are linked where that is possible, else copied.

    Every label is read before anything is written. What is left out is told in notes.

    Args:
        folder: the YOLO or VOC data set.
        out: a folder that is not there yet, or empty.

    Returns:
        The number of images of each split.

    Raises:
        DataError: neither format is found, images or labels cannot be read, or `out` holds something or cannot be made.
        MissingExtraError: supervision is not installed.
    """
    refuse_if_it_cannot_be_made(out)
    if is_yolo(folder):
        found = read_yolo(folder)
        splits = _read_splits(found.splits, _reader_of_yolo(found))
        classes = found.classes
    elif is_voc(folder):
        names: list[str] = []
        splits = _read_splits(read_voc(folder), _reader_of_voc(names))
        classes = dict(enumerate(names))
        _note_boxes_from_zero(folder, splits)
    else:
        raise DataError(
            f"{folder}: is neither a YOLO nor a VOC data set; give the folder that holds images/ and labels/, or "
            "JPEGImages/ and Annotations/, or train/ with both"
        )
    if not splits:
        raise DataError(f"{folder}: holds no images with labels; give images with their labels")
    categories = [{"id": number + 1, "name": name} for number, name in classes.items()]
    try:
        # A conversion that fails half-way leaves nothing in the way of the next one.
        with built_beside(out) as building:
            for split, content in splits.items():
                _write(building, split, content, categories)
            building.rename(out)
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot be read or written ({error.strerror}); make room, or give another folder"
        ) from None
    return {split: len(content.images) for split, content in splits.items()}


def _read_splits(splits: Mapping[str, list[Labelled]], read: Callable[[Labelled, View], _Objects]) -> dict[str, _Split]:
    """Read all labels.

    Raises:
        DataError: images or labels that cannot be read, a line each.
    """
    problems: list[str] = []
    found = {}
    for split, labelled in splits.items():
        found[split] = _Split([each.image for each in labelled], [], [])
        names = list(names_in_split(labelled))
        for each, name, image_id in zip(labelled, names, _image_ids(names), strict=True):
            try:
                seen = _view(each.image)
                objects = read(each, seen) if each.labels.is_file() else None
            except DataError as error:
                problems.append(str(error))
                continue
            images, annotations = found[split].images, found[split].annotations
            size = objects.size if objects else seen.upright
            images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
            for record in _records(objects) if objects else ():
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **record})
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        rest = [f"... and {more} more files"] if more > 0 else []
        raise DataError("\n".join([*problems[:_MOST_PROBLEMS], *rest]))
    return found


def _image_ids(names: Sequence[str]) -> Sequence[int]:
    """Ids for a split's images: the numbers in their names, as YOLO writes them in its results, else from 1."""
    stems = [PurePosixPath(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isdecimal() and len(stem) <= _MOST_DIGITS]
    return numbers if len(set(numbers)) == len(names) else range(1, len(names) + 1)


def _reader_of_yolo(folder: YoloFolder) -> Callable[[Labelled, View], _Objects]:
    parse = import_extra("supervision.dataset.formats.yolo", "predict").yolo_annotations_to_detections

    def read(labelled: Labelled, seen: View) -> _Objects:
        file, size = labelled.labels, seen.upright
        lines = {at: line for at, line in enumerate(read_text(file).splitlines(), start=1) if line.strip()}
        if folder.keypoints:
            lines = {at: _without_keypoints(line, folder.keypoints) for at, line in lines.items()}
        has_polygons = any(len(line.split()) > 6 for line in lines.values())
        try:
            detections = parse(list(lines.values()), resolution_wh=size, with_masks=has_polygons)
        except Exception:  # Anything may stand there instead of numbers.
            raise DataError(_wrong_line(file, lines, parse, size)) from None
        for (at, line), number in zip(lines.items(), _class_numbers(detections), strict=True):
            if number not in folder.classes:
                raise DataError(
                    f"{file}: line {at} ({line[:40]!r}) is of class {number}, but {folder.description} names "
                    f"{_shown_numbers(folder.classes)}; correct one of them"
                )
        return _Objects(detections, [], size)

    return read


def _without_keypoints(line: str, keypoints: int) -> str:
    values = line.split()
    return " ".join(values[:5]) if len(values) == 5 + keypoints else line


def _wrong_line(file: Path, lines: Mapping[int, str], parse: Callable[..., Any], size: tuple[int, int]) -> str:
    for at, line in lines.items():
        try:
            parse([line], resolution_wh=size, with_masks=False)
        except Exception as error:
            return f"{file}: line {at} cannot be read ({one_line(error, 300)}); correct or remove it"
    return f"{file}: cannot be read; correct it"


def _class_numbers(detections: Any) -> list[int]:
    return [] if detections.class_id is None else detections.class_id.tolist()


def _shown_numbers(classes: Mapping[int, str]) -> str:
    numbers = list(classes)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _reader_of_voc(names: list[str]) -> Callable[[Labelled, View], _Objects]:
    """A reader of VOC's labels, which adds to `names` the classes that they name."""
    parse = import_extra("supervision.dataset.formats.pascal_voc", "predict").detections_from_xml_obj
    parse_xml = import_extra("defusedxml.ElementTree", "predict").parse

    def read(labelled: Labelled, seen: View) -> _Objects:
        try:
            root = parse_xml(labelled.labels).getroot()
            if root.tag.casefold() != "annotation":
                raise ValueError(f"its root is <{root.tag}>, not <annotation>")
            size = _size_in_voc(root) or seen.upright
            if seen.is_upright(*size) is None:
                raise DataError(
                    f"{labelled.labels}: its boxes are for an image of {size[0]}x{size[1]} pixels, but "
                    f"{labelled.image} has {seen.upright[0]}x{seen.upright[1]}; restore the image, or correct the size "
                    "and the boxes"
                )
            detections, extended = parse(root, names, size)
        except DataError:
            raise
        except OSError as error:
            raise DataError(f"{labelled.labels}: cannot be read ({error.strerror}); restore it") from None
        except Exception as error:  # Anything may stand there instead of XML and numbers.
            reason = one_line(error, 300)
            raise DataError(f"{labelled.labels}: is no VOC annotation ({reason}); correct or remove it") from None
        names.extend(extended[len(names) :])
        return _Objects(detections, [_is_difficult(each) for each in root.findall("object")], size)

    return read


def _size_in_voc(root: Any) -> tuple[int, int] | None:
    """The size of the image that a VOC file was made for; None where a tool wrote none, or no numbers above 0."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or "0")) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _is_difficult(each: Any) -> bool:
    """Whether a VOC object is marked as difficult: VOC counts it neither as found nor as missed."""
    return (each.findtext("difficult") or "").strip() == "1"


def _records(objects: _Objects) -> Iterator[dict[str, Any]]:
    """An image's objects as COCO has them; a category's id is the class's number + 1."""
    found, difficult, _ = objects
    for row, (left, top, right, bottom) in enumerate(found.xyxy.astype(np.float64).tolist()):
        record: dict[str, Any] = {
            "category_id": 1 + int(found.class_id[row]),
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "area": (right - left) * (bottom - top),
            "iscrowd": int(row < len(difficult) and difficult[row]),
        }
        if found.mask is not None and found.mask[row].any():
            encoded: Any = mask_utils.encode(np.asfortranarray(found.mask[row].astype(np.uint8)))
            record["segmentation"] = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
            record["area"] = float(mask_utils.area(encoded))
        yield record


def _view(path: Path) -> View:
    try:
        with Image.open(path) as image:
            return view(image, path)
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        raise DataError(f"{path}: cannot be read ({one_line(error, 80)}); restore or remove it") from None


def _note_boxes_from_zero(folder: Path, splits: Mapping[str, _Split]) -> None:
    """Count boxes that begin before VOC's first pixel, which is 1: their tool may have counted from 0."""
    starts = [min(record["bbox"][:2]) for split in splits.values() for record in split.annotations]
    if before := sum(start < 0 for start in starts):
        note(
            f"{folder}: {before} of {len(starts)} boxes begin at pixel 0, and VOC counts from 1; if the tool that "
            "wrote them counts from 0, all boxes are a pixel too far left and up"
        )


def _write(out: Path, split: str, content: _Split, categories: list[dict[str, Any]]) -> None:
    annotation_file, folder = canonical_files(out, split)
    folder.mkdir(parents=True)
    annotation_file.parent.mkdir(exist_ok=True)
    for source, image in zip(content.sources, content.images, strict=True):
        target = folder / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(source, target)
    annotation_file.write_text(
        json.dumps({"images": content.images, "annotations": content.annotations, "categories": categories})
    )


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source.resolve(), target)
        return
    shutil.copyfile(source, target)
