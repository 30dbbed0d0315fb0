"""The generated data set: shapes on clutter, written to disk in COCO format.

It stands in for COCO where there is no GPU: classes resemble each other, shapes hide each other, hollow shapes and
blobs are not objects. Yet a tiny detector learns it in minutes, far enough for high-IoU AP to tell models apart.
"""

import colorsys
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.sections import ShapesConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.layout import canonical_files
from dynrcnn_ray.data.sealed_folder import cannot_be_written, is_sealed, make_sure_of, why_not_trusted

GENERATOR_VERSION = 1
"""Part of the data set's identity: raise it with every change of the pictures or annotations."""
NAME_BEGINS = "shapes-"
"""How the name of its folder in the cache begins."""

# Real data sets have holes in their category ids, so this one has them too.
CATEGORIES = {1: "circle", 2: "square", 3: "triangle", 5: "pentagon", 7: "hexagon", 8: "star"}
"""Class of each category id."""

_CORNERS = {"circle": 36, "square": 4, "triangle": 3, "pentagon": 5, "hexagon": 6, "star": 10}
_CATEGORY_IDS = tuple(CATEGORIES)
# Colour hints at the class, and neighbours overlap: shape alone takes too long to learn, colour alone is too easy.
_HUE_SPREAD = 0.04
_MAX_OBJECTS = 5
# Radians. A box that only the tips of a freely turned shape touch is beyond a small detector at IoU 0.9.
_MAX_TURN = 0.25
_EMPTY_SHARE = 0.02
_CROWD_SHARE = 0.02
_MIN_VISIBLE = 0.6
_PLACEMENT_ATTEMPTS = 10
_OVERSAMPLING = 4
_MOST_THREADS = 8
_INSIDE = 128
"""A pixel is of an object if at least half of it, of 255, is covered."""

Outline = NDArray[np.float64]
"""Corners of a polygon, `[n, 2]`, xy in pixels."""


@dataclass(frozen=True)
class _Instance:
    """An object, or a crowd of many small ones, before others hide it."""

    category_id: int
    outlines: list[Outline]
    coverage: NDArray[np.uint8]
    """Share of each pixel that it covers, of 255: `[H, W]`."""
    is_crowd: bool

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Its pixels, `[H, W]`."""
        return self.coverage >= _INSIDE

    @cached_property
    def area(self) -> float:
        """Square pixels, with those beyond the image's border."""
        return sum(_polygon_area(outline) for outline in self.outlines)


def is_generated(root: Path) -> bool:
    """Whether `root` already holds the whole data set."""
    return all(canonical_files(root, split).annotations.is_file() for split in ("train", "val"))


def generate_shapes(config: ShapesConfig, root: Path) -> None:
    """Write the data set, with splits `train` and `val`, unless it is there and undamaged.

    It is built aside and renamed into place, so `root` never holds half of it, and of two processes one wins.

    Args:
        config: The recipe. The same recipe gives the same annotations and pixels everywhere.
        root: The folder to create.

    Raises:
        DataError: `root` exists but holds something else, or cannot be written.
    """
    if os.path.lexists(root) and not is_sealed(root) and not is_generated(root):
        raise DataError(f"{root}: exists but is not a whole data set; move it away")
    if os.path.lexists(root) and not root.name.startswith(NAME_BEGINS):
        # Somebody's copy, which is theirs; without checksums it may have been made by any version.
        if is_sealed(root) and (problem := why_not_trusted(root)):
            raise DataError(f"{root}: {problem}; copy it again")
        return
    try:
        make_sure_of(root, lambda building: _write_splits(building, config))
    except OSError as error:
        raise cannot_be_written(root, error) from None


def _write_splits(root: Path, config: ShapesConfig) -> None:
    for number, (split, count) in enumerate((("train", config.train_images), ("val", config.val_images))):
        seeds = [(config.seed, number, index) for index in range(count)]
        _write_split(root, split, seeds, config.image_size)


def _write_split(root: Path, split: str, seeds: list[tuple[int, int, int]], image_size: int) -> None:
    annotation_file, folder = canonical_files(root, split)
    folder.mkdir(parents=True)
    annotation_file.parent.mkdir(exist_ok=True)
    names = [f"{image_id:06d}.jpg" for image_id in range(1, len(seeds) + 1)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    # NumPy and Pillow do most of it without the interpreter's lock.
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        drawn = pool.map(partial(_write_picture, image_size=image_size), [folder / name for name in names], seeds)
        for image_id, (name, (size, records)) in enumerate(zip(names, drawn, strict=True), start=1):
            images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
            for record in records:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **record})
    categories = [{"id": category_id, "name": name} for category_id, name in CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    annotation_file.write_text(json.dumps(content))


def _write_picture(
    file: Path, seed: tuple[int, int, int], *, image_size: int
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Draw a picture into a file; returns its width and height, and its annotations without their ids."""
    picture, records = _draw(np.random.default_rng(seed), image_size)
    # At this size JPEG decodes faster than PNG; subsampled colours would blur the edges that AP90 looks at.
    picture.save(file, quality=95, subsampling=0)
    return picture.size, records


def _draw(rng: np.random.Generator, long_side: int) -> tuple[Image.Image, list[dict[str, Any]]]:
    """One picture and its annotations, without their ids."""
    short_side = long_side * 3 // 4
    landscape, portrait = (long_side, short_side), (short_side, long_side)
    width, height = [(long_side, long_side), landscape, portrait][rng.choice(3, p=(0.6, 0.2, 0.2))]

    canvas = _background(rng, width, height)
    instances, owner = _arrange(rng, width, height)
    for instance in instances:
        hue = _CATEGORY_IDS.index(instance.category_id) / len(_CATEGORY_IDS) + rng.normal(0, _HUE_SPREAD)
        _paint(rng, canvas, instance.coverage, hue)

    blurred = _to_picture(canvas.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    noisy = rng.normal(0, rng.uniform(1, 4), (height, width, 3))
    noisy += np.asarray(blurred)
    records = [_annotation(instance, owner == index) for index, instance in enumerate(instances)]
    return _to_picture(noisy), records


def _background(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    """A gradient, clouds, lines, blobs and hollow shapes: `[3, H, W]`, 0 to 255."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.ogrid[0:height, 0:width]
    slope = math.cos(angle) * (columns / width - 0.5) + math.sin(angle) * (rows / height - 0.5)
    middle = rng.uniform(60, 195) + rng.uniform(-30, 30, 3)
    canvas = middle[:, None, None] + slope * rng.uniform(-70, 70, (3, 1, 1))

    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    clouds = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1) - 128.0
    canvas += rng.uniform(0, 0.12) * clouds

    for _ in range(rng.integers(0, 4)):
        distractor = (_line, _blob, _hollow_shape)[rng.integers(3)]
        _paint(rng, canvas, distractor(rng, width, height), hue=rng.uniform())
    return canvas


def _arrange(rng: np.random.Generator, width: int, height: int) -> tuple[list[_Instance], NDArray[np.int64]]:
    """Place objects, later over earlier, so that enough of each stays visible.

    Returns:
        The instances from back to front, and the index of the instance that each pixel shows, or -1: `[H, W]`.
    """
    count = 0 if rng.random() < _EMPTY_SHARE else int(rng.integers(1, rng.integers(1, _MAX_OBJECTS + 1), endpoint=True))
    with_crowd = rng.random() < _CROWD_SHARE
    makers = [_crowd] * with_crowd + [_single] * count
    instances: list[_Instance] = []
    owner = np.full((height, width), -1)
    for make in makers:
        for _ in range(_PLACEMENT_ATTEMPTS):
            candidate = make(rng, width, height)
            proposed_owner = np.where(candidate.mask, len(instances), owner)
            if _all_visible([*instances, candidate], proposed_owner):
                instances.append(candidate)
                owner = proposed_owner
                break
    return instances, owner


def _all_visible(instances: list[_Instance], owner: NDArray[np.int64]) -> bool:
    pixels = np.bincount(owner.ravel() + 1, minlength=len(instances) + 1)[1:]
    return all(visible >= _MIN_VISIBLE * instance.area for visible, instance in zip(pixels, instances, strict=True))


def _annotation(instance: _Instance, visible: NDArray[np.bool_]) -> dict[str, Any]:
    height, width = visible.shape
    corners = np.concatenate(instance.outlines)
    inside = (corners >= 0).all() and (corners <= (width, height)).all()
    if inside and not instance.is_crowd and np.array_equal(visible, instance.mask):
        segmentation: Any = [outline.ravel().tolist() for outline in instance.outlines]
        encoded: Any = mask_utils.merge(mask_utils.frPyObjects(segmentation, height, width))
    else:
        encoded = mask_utils.encode(np.asfortranarray(visible, dtype=np.uint8))
        segmentation = {"size": [height, width], "counts": encoded["counts"].decode()}
    return {
        "category_id": instance.category_id,
        "bbox": mask_utils.toBbox(encoded).tolist(),
        "area": int(mask_utils.area(encoded)),
        "iscrowd": int(instance.is_crowd),
        "segmentation": segmentation,
    }


def _single(rng: np.random.Generator, width: int, height: int) -> _Instance:
    category_id = _random_category(rng)
    diameter = max(width, height) * _log_uniform(rng, 0.18, 0.65)
    centre = rng.uniform(0.1, 0.9, 2) * (width, height)
    outline = _shape_outline(rng, CATEGORIES[category_id], centre, diameter)
    return _Instance(category_id, [outline], _coverage([outline], width, height), is_crowd=False)


def _crowd(rng: np.random.Generator, width: int, height: int) -> _Instance:
    category_id = _random_category(rng)
    long_side = max(width, height)
    middle = rng.uniform(0.2, 0.8, 2) * (width, height)
    outlines = [
        _shape_outline(
            rng,
            CATEGORIES[category_id],
            middle + rng.uniform(-0.15, 0.15, 2) * long_side,
            long_side * rng.uniform(0.04, 0.07),
        )
        for _ in range(rng.integers(10, 21))
    ]
    return _Instance(category_id, outlines, _coverage(outlines, width, height), is_crowd=True)


def _line(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    start, end = rng.uniform(0, 1, (2, 2)) * (width, height)
    across = np.array([start[1] - end[1], end[0] - start[0]]) / (math.dist(start, end) + 1)
    across *= rng.uniform(0.4, 1.5)
    return _coverage([np.stack([start - across, end - across, end + across, start + across])], width, height)


def _blob(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    centre = rng.uniform(0, 1, 2) * (width, height)
    radii = max(width, height) * _log_uniform(rng, 0.05, 0.25) * rng.uniform(0.35, 1, 11)
    return _coverage([_star_convex(radii.tolist(), centre, stretch=1, turn=0)], width, height)


def _hollow_shape(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    centre = rng.uniform(0, 1, 2) * (width, height)
    diameter = max(width, height) * _log_uniform(rng, 0.1, 0.5)
    outer = _shape_outline(rng, CATEGORIES[_random_category(rng)], centre, diameter)
    inner = centre + (outer - centre) * rng.uniform(0.6, 0.85)
    return _coverage([outer], width, height) - _coverage([inner], width, height)


def _random_category(rng: np.random.Generator) -> int:
    return _CATEGORY_IDS[rng.integers(len(_CATEGORY_IDS))]


def _shape_outline(rng: np.random.Generator, name: str, centre: NDArray[np.float64], diameter: float) -> Outline:
    radii = [diameter / 2] * _CORNERS[name]
    if name == "star":
        radii[1::2] = [diameter * 0.22] * 5
    return _star_convex(radii, centre, stretch=_log_uniform(rng, 0.75, 1.35), turn=rng.uniform(-_MAX_TURN, _MAX_TURN))


def _star_convex(radii: list[float], centre: NDArray[np.float64], *, stretch: float, turn: float) -> Outline:
    """A polygon given by its corners' distances from its centre; stretched, then turned."""
    corners: list[tuple[float, float]] = []
    for number, radius in enumerate(radii):
        # Half a corner of phase lays a square on its side, so that stretching it gives a rectangle.
        angle = 2 * math.pi * (number + 0.5) / len(radii)
        x, y = radius * math.cos(angle) * stretch, radius * math.sin(angle) / stretch
        corners.append((x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)))
    # Rounding hides the last bit, in which maths libraries differ from machine to machine.
    return np.round(np.array(corners) + centre, 2)


def _polygon_area(outline: Outline) -> float:
    x, y = outline.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def _coverage(outlines: list[Outline], width: int, height: int) -> NDArray[np.uint8]:
    """Share of each pixel inside any of the polygons, of 255: `[H, W]`."""
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for outline in outlines:
        # Pillow counts from the middle of the first pixel, annotations from its corner.
        draw.polygon([(x, y) for x, y in (outline * _OVERSAMPLING - 0.5).tolist()], fill=255)
    return np.array(canvas.reduce(_OVERSAMPLING))


def _paint(rng: np.random.Generator, canvas: NDArray[np.float64], coverage: NDArray[np.uint8], hue: float) -> None:
    """Colour the covered pixels of `[3, H, W]`, in place: between what is below them and a vivid colour of the hue."""
    rows, columns = np.nonzero(coverage)
    if len(rows) == 0:
        return
    middle = len(rows) // 2
    below = canvas[:, rows[middle], columns[middle]]
    vivid = 255 * np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.5, 1), rng.uniform(0.4, 1)))
    colour = below + rng.uniform(0.75, 1) * (vivid - below)
    # What is not covered stays as it is.
    box = slice(rows[0], rows[-1] + 1), slice(columns.min(), columns.max() + 1)
    part = canvas[:, *box]
    part += coverage[box] / 255 * (colour[:, None, None] - part)


def _to_picture(colours: NDArray[np.float64]) -> Image.Image:
    """A picture of `[H, W, 3]`, 0 to 255."""
    rounded = np.rint(colours)
    return Image.fromarray(np.clip(rounded, 0, 255, out=rounded).astype(np.uint8))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low * (high / low) ** rng.uniform()
