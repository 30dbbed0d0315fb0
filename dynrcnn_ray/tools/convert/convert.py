"""YOLO and Pascal VOC folders as COCO data sets: read by supervision, written in COCO's layout.

| format | images | labels |
|---|---|---|
| YOLO | images/{split}/ or {split}/images/ | labels/{split}/ or {split}/labels/, class names in a .yaml file |
| VOC | JPEGImages/ | Annotations/, splits in ImageSets/Main/{split}.txt |
| VOC | {split}/ | {split}/ |

A folder of one split has the same without the level of the split; it becomes `train`.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.extras import import_extra
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.layout import canonical_files
from dynrcnn_ray.data.orientation import view
from dynrcnn_ray.data.whole_folder import built_beside

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_FEW = 64
"""Images of a YOLO split that are read at once."""
_PLACES_OF_YOLO = (("images/{}", "labels/{}"), ("{}/images", "{}/labels"))


class _Part(NamedTuple):
    """One split as its format has it; `names` are the images' names without endings, None: all."""

    images: Path
    labels: Path
    names: frozenset[str] | None = None


def convert_to_coco(folder: Path, out: Path) -> dict[str, int]:
    """Convert a data set; its own folder is not written to. Images are linked where that is possible, else copied.

    Args:
        folder: the YOLO or VOC data set.
        out: a folder that is not there yet, or empty.

    Returns:
        The number of images of each split.

    Raises:
        DataError: neither format is found, a label cannot be read, or `out` holds something.
        MissingExtraError: supervision is not installed.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out}: holds something already; give a new folder")
    reader = import_extra("supervision", "predict").DetectionDataset
    classes = None
    if parts := _parts_of_yolo(folder):
        names = str(_class_names_of_yolo(folder))
        read = {split: _few_at_once(folder, reader, part, names) for split, part in parts.items()}
    elif parts := _parts_of_voc(folder):
        read = {split: [_read(folder, reader.from_pascal_voc, part, part.images)] for split, part in parts.items()}
        # VOC's classes are those that a split's files name.
        classes = list(dict.fromkeys(name for (dataset,) in read.values() for name in dataset.classes))
    else:
        raise DataError(
            f"{folder}: is neither a YOLO nor a VOC data set; give the folder that holds images/ and labels/, or "
            "JPEGImages/ and Annotations/, or train/ with both"
        )
    # What ends half-way leaves nothing that would be in the way of the next call.
    with built_beside(out) as building:
        counts = {split: _write(building, split, parts[split], datasets, classes) for split, datasets in read.items()}
        building.rename(out)
    return counts


def _few_at_once(folder: Path, reader: Any, part: _Part, names: str) -> Iterator[Any]:
    """A YOLO split as data sets of a few images: supervision holds every mask as an array of the image's size."""
    images = sorted(file for file in part.images.iterdir() if file.is_file())
    for first in range(0, max(1, len(images)), _FEW):
        with tempfile.TemporaryDirectory(prefix="dynrcnn_ray_") as links:
            for image in images[first : first + _FEW]:
                (Path(links) / image.name).symlink_to(image)
            yield _read(folder, reader.from_yolo, part, Path(links), data_yaml_path=names)


def _read(folder: Path, read: Any, part: _Part, images: Path, **others: str) -> Any:
    try:
        return read(images_directory_path=str(images), annotations_directory_path=str(part.labels), **others)
    except Exception as error:  # Whatever XML, YAML and numbers may be instead.
        reason = " ".join(str(error).split()).replace(str(images), str(part.images))
        raise DataError(f"{folder}: cannot be converted: {reason[:300]}") from None


def _parts_of_yolo(folder: Path) -> dict[str, _Part]:
    found = {}
    for split, names in _SPLITS.items():
        for name in names:
            for images, labels in _PLACES_OF_YOLO:
                part = _Part(folder / images.format(name), folder / labels.format(name))
                if part.images.is_dir() and part.labels.is_dir():
                    found.setdefault(split, part)
    whole = _Part(folder / "images", folder / "labels")
    if not found and whole.images.is_dir() and whole.labels.is_dir():
        found["train"] = whole
    return found


def _class_names_of_yolo(folder: Path) -> Path:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not files:
        raise DataError(f"{folder}: has no .yaml file with the names of the classes; add data.yaml with a list `names`")
    # Training settings may lie beside it.
    return next((file for file in files if file.stem in ("data", "dataset")), files[0])


def _parts_of_voc(folder: Path) -> dict[str, _Part]:
    images, labels, sets = folder / "JPEGImages", folder / "Annotations", folder / "ImageSets" / "Main"
    if images.is_dir() and labels.is_dir():
        lists = {split: sets / f"{split}.txt" for split in _SPLITS}
        stems = {file.stem for file in images.iterdir()}
        found = {split: _Part(images, labels, _listed(file, stems)) for split, file in lists.items() if file.is_file()}
        return found or {"train": _Part(images, labels)}
    found = {}
    for split, names in _SPLITS.items():
        for name in names:
            if next((folder / name).glob("*.xml"), None):
                found.setdefault(split, _Part(folder / name, folder / name))
    if not found and next(folder.glob("*.xml"), None):
        found["train"] = _Part(folder, folder)
    return found


def _listed(file: Path, stems: Collection[str]) -> frozenset[str]:
    """The images that a list names: each line one, with or without its ending or a flag behind it."""
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    readings = [(line, Path(line).stem, line.rsplit(maxsplit=1)[0]) for line in lines]
    found = [next((name for name in names if name in stems), None) for names in readings]
    if missing := [line for line, name in zip(lines, found, strict=True) if name is None]:
        told = f"{len(missing)} of {len(lines)} images that it lists are not there, such as {missing[0]!r}; left out"
        print(f"note: {file}: {told}", file=sys.stderr)
    return frozenset(name for name in found if name is not None)


def _write(out: Path, split: str, part: _Part, datasets: Iterable[Any], classes: Sequence[str] | None) -> int:
    """Write one split, which comes in parts; the number of its images. Without `classes` its own are those of all."""
    annotation_file, folder = canonical_files(out, split)
    folder.mkdir(parents=True)
    annotation_file.parent.mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    known: Sequence[str] = classes or ()
    for dataset in datasets:
        known = classes or dataset.classes
        for path in sorted(map(Path, dataset.image_paths)):
            if part.names is not None and path.stem not in part.names:
                continue
            own = part.images / path.name
            width, height = _size(own)
            image_id = len(images) + 1
            images.append({"id": image_id, "file_name": path.name, "width": width, "height": height})
            _link_or_copy(own, folder / path.name)
            for record in _objects(dataset, path, part, known):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **record})
    categories = [{"id": number, "name": name} for number, name in enumerate(known, start=1)]
    annotation_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return len(images)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return view(image, path).upright
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:80]}); restore or remove it") from None


def _objects(dataset: Any, path: Path, part: _Part, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    found = dataset.annotations[str(path)]
    difficult = _difficult(part.labels / f"{path.stem}.xml")
    for row, (left, top, right, bottom) in enumerate(found.xyxy.astype(np.float64).tolist()):
        record: dict[str, Any] = {
            "category_id": 1 + classes.index(dataset.classes[int(found.class_id[row])]),
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "area": (right - left) * (bottom - top),
            "iscrowd": int(row < len(difficult) and difficult[row]),
        }
        if found.mask is not None and found.mask[row].any():
            encoded: Any = mask_utils.encode(np.asfortranarray(found.mask[row].astype(np.uint8)))
            record["segmentation"] = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
            record["area"] = float(mask_utils.area(encoded))
        yield record


def _difficult(file: Path) -> list[bool]:
    """Which of a VOC file's objects are marked as difficult: VOC counts them neither as found nor as missed."""
    if not file.is_file():
        return []
    tree = import_extra("defusedxml.ElementTree", "predict").parse(file)
    return [(each.findtext("difficult") or "").strip() == "1" for each in tree.getroot().findall("object")]


def _link_or_copy(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source.resolve(), target)
        return
    shutil.copyfile(source, target)
