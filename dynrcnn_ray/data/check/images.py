"""Whether the image files are there, can be read and have the annotated sizes."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.data.annotations import LFS_POINTER
from dynrcnn_ray.data.check.check_split import CheckedSplit
from dynrcnn_ray.data.check.faults import Fault, Records, shown
from dynrcnn_ray.data.image_files import ImageFile, find_images
from dynrcnn_ray.data.orientation import WrongSizeError, deep_mode, read_pixels, view
from dynrcnn_ray.data.remembered import recall, remember

_RULES_VERSION = 4
"""Part of the key of remembered results: raise it with every change of what is refused."""
_THREADS = 8
_CHUNK = 64
_ENDS = 64
_NOT_ACCESSIBLE = "not accessible"
_ACCESS_REMEDY = "check the permissions and the disk"
_OR_DROP = "or leave them out with --data.drop-invalid"
_REMEDIES = {
    "missing": f"restore them, {_OR_DROP}",
    _NOT_ACCESSIBLE: _ACCESS_REMEDY,
    "that are pointers of Git LFS": f"fetch them with `git lfs pull`, {_OR_DROP}",
    "that are empty": f"copy them again, {_OR_DROP}",
    "that are web pages": f"download them again, {_OR_DROP}",
    "unreadable": f"copy them again, {_OR_DROP}",
    "of another size than annotated": f"correct width and height, {_OR_DROP}",
    "not of 8 bits a channel": f"convert them to 8 bits, {_OR_DROP}",
    "whose colours cannot be converted": f"convert them to RGB, {_OR_DROP}",
}
_NOTES = {
    "turned upright": ("images with an EXIF orientation", "turned upright, as labelling tools show them"),
    "as stored": (
        "images whose annotated size fits the pixels as stored and not their EXIF orientation",
        "the pixels are taken as they are stored",
    ),
    "turned, of one size": (
        "images with an EXIF orientation that leaves their size as it is, beside others annotated as they are stored",
        "turned upright; if their boxes are for the pixels as stored, remove the orientation from these files",
    ),
}


class _Image(NamedTuple):
    name: str
    """As it is on disk."""
    width: int
    height: int


class _Observation(NamedTuple):
    kind: str
    """A key of `_REMEDIES`, or of `_NOTES`."""
    detail: str


def check_images(
    folder: Path,
    checked: CheckedSplit,
    *,
    cache: Path,
    decode: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedSplit:
    """Check the image files of a split whose annotations have been checked.

    A result is remembered in the cache until an image's name, size, time of change or annotated size changes.

    Args:
        folder: the images.
        checked: the annotations; images that they rule out are not looked at.
        cache: where results are remembered.
        decode: read every pixel. Otherwise only the header is read, and where a file does not end as it should, its
            pixels too.
        on_progress: called with the number of images done and of all.

    Returns:
        `checked` with the faults, less the images that cannot be used and their annotations. The images have their
        names as they are on disk, and `files` says what is there.
    """
    if checked.content is None:
        return checked
    images = Records(checked.file, "image", checked.images)
    names = [image["file_name"] for image in images.left]
    try:
        found = find_images(folder, names)
    except OSError as error:
        problem = f"{error.filename or folder} cannot be read ({error.strerror})"
        images.faults.append(Fault(images.file, "file", problem, _ACCESS_REMEDY, may_be_whole=True))
        images.keep(np.zeros(len(names), dtype=bool))
        return _without_refused(checked, images, [])
    _refuse_absent(folder, images, found)
    files = [file for file in found if isinstance(file, ImageFile)]
    listed = images.column("file_name")
    renamed = [os.path.normpath(name) != file.name for name, file in zip(listed, files, strict=True)]
    images.note(
        np.array(renamed, dtype=bool),
        f"{folder} holds images under other spellings of their names, or in another folder",
        "those are taken",
        lambda at: f"{shown(listed[at])} is {shown(files[at].name)}",
    )
    images.change("file_name", {at: files[at].name for at, other in enumerate(renamed) if other})

    entries = [
        _Image(file.name, image["width"], image["height"]) for file, image in zip(files, images.left, strict=True)
    ]
    seen = _remembered(folder, entries, files, cache, decode=decode, on_progress=on_progress)
    if "as stored" not in {observation.kind for observation in seen.values()}:
        plain = {"turned, of one size": "turned upright"}
        seen = {row: each._replace(kind=plain.get(each.kind, each.kind)) for row, each in seen.items()}
    for kind, (problem, consequence) in _NOTES.items():
        images.note(
            _of_kind(seen, kind, len(files)), f"{folder} holds {problem}", consequence, lambda at: repr(files[at].name)
        )
    details = [
        f"{entry.name!r} {seen[row].detail}".rstrip() if row in seen else "" for row, entry in enumerate(entries)
    ]
    left = np.arange(len(files))
    for kind, remedy in _REMEDIES.items():
        bad = _of_kind(seen, kind, len(files))[left]
        images.refuse(
            bad,
            f"{folder} holds images {kind}",
            remedy,
            lambda at, left=left: details[left[at]],
            may_be_whole=kind == _NOT_ACCESSIBLE,
        )
        left = left[~bad]
    return _without_refused(checked, images, [files[row] for row in left.tolist()])


def _refuse_absent(folder: Path, images: Records, found: Sequence[ImageFile | list[str]]) -> None:
    if not folder.is_dir():
        remedy = "check data.root and the name of the split"
        images.faults.append(Fault(images.file, "file", f"there is no folder {folder} for the images", remedy))
        images.keep(np.zeros(len(found), dtype=bool))
        return
    absent = np.array([not isinstance(file, ImageFile) for file in found], dtype=bool)

    def describe(at: int) -> str:
        name, similar = images.left[at]["file_name"], found[at]
        target = os.readlink(folder / name) if os.path.islink(folder / name) else ""
        hint = f" links to {target!r}" if target else f", there is {', '.join(map(repr, similar))}" if similar else ""
        return f"{name!r}{hint}"

    images.refuse(absent, f"{folder} lacks images", _REMEDIES["missing"], describe)


def _without_refused(checked: CheckedSplit, images: Records, files: list[ImageFile]) -> CheckedSplit:
    kept_ids = {image["id"] for image in images.left}
    rows = [row for row, record in enumerate(checked.annotations) if record["image_id"] in kept_ids]
    left = dataclasses.replace(
        checked,
        faults=[*checked.faults, *images.faults],
        images=images.left,
        annotations=[checked.annotations[row] for row in rows],
        image_rows=checked.image_rows[images.rows],
        annotation_rows=checked.annotation_rows[rows],
        is_changed=checked.is_changed or images.is_changed,
        files=files,
    )
    explained = any(not fault.can_be_dropped for fault in images.faults if fault.is_error)
    is_less = len(left.images) < len(checked.images) and not explained
    if is_less and checked.num_objects() and not left.num_objects():
        left.faults.append(
            Fault(checked.file, "file", "no image with objects is left", "restore the images", follows=True)
        )
    return left


def _of_kind(seen: dict[int, _Observation], kind: str, count: int) -> np.ndarray:
    which = np.zeros(count, dtype=bool)
    which[[row for row, observation in seen.items() if observation.kind == kind]] = True
    return which


def _remembered(
    folder: Path,
    entries: Sequence[_Image],
    files: Sequence[ImageFile],
    cache: Path,
    *,
    decode: bool,
    on_progress: Callable[[int, int], None],
) -> dict[int, _Observation]:
    """What is to be said of images, by position in `entries`."""
    # What holds for all pixels holds for the headers too.
    for whole in (True,) if decode else (True, False):
        remembered = recall(cache / f"{_key(folder, entries, files, decode=whole)}.json")
        if remembered is not None:
            return {int(row): _Observation(*observation) for row, observation in remembered.items()}
    seen: dict[int, _Observation] = {}
    starts = range(0, len(entries), _CHUNK)
    with ThreadPoolExecutor(_THREADS) as pool:
        chunks = pool.map(lambda start: _observe(folder, entries[start : start + _CHUNK], decode=decode), starts)
        for start, found in zip(starts, chunks, strict=True):
            seen |= {start + row: observation for row, observation in found.items()}
            on_progress(min(start + _CHUNK, len(entries)), len(entries))
    if any(observation.kind == _NOT_ACCESSIBLE for observation in seen.values()):
        # That passes without the file changing.
        return seen
    remember(cache / f"{_key(folder, entries, files, decode=decode)}.json", seen)
    return seen


def _key(folder: Path, entries: Sequence[_Image], files: Sequence[ImageFile], *, decode: bool) -> str:
    what = [_RULES_VERSION, PIL.__version__, decode, str(folder.absolute()), entries, files]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _observe(folder: Path, entries: Sequence[_Image], *, decode: bool) -> dict[int, _Observation]:
    found = ((row, _observation(folder / entry.name, entry, decode=decode)) for row, entry in enumerate(entries))
    return {row: observation for row, observation in found if observation is not None}


def _observation(path: Path, entry: _Image, *, decode: bool) -> _Observation | None:
    try:
        with Image.open(path) as image:
            # Before `view`, which may read the pixels: what they were is not known afterwards.
            deep = deep_mode(image)
            seen = view(image, path)
            upright = seen.is_upright(entry.width, entry.height)
            if upright is None:
                raise WrongSizeError("{}x{}".format(*seen.upright))
            if deep:
                return _Observation("not of 8 bits a channel", f"mode {deep}")
            if not _becomes_rgb(image.mode):
                return _Observation("whose colours cannot be converted", f"mode {image.mode}")
            whole = not decode and _ends_well(path, image.format)
        if not whole:
            read_pixels(path, entry.width, entry.height)
    except WrongSizeError as error:
        detail = f"{error}, annotated {entry.width}x{entry.height}"
        return _Observation("of another size than annotated", detail)
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        return _why_unreadable(path, error)
    if seen.orientation == 1:
        return None
    if seen.stored == seen.upright:
        return _Observation("turned, of one size", "")
    return _Observation("turned upright" if upright else "as stored", "")


def _becomes_rgb(mode: str) -> bool:
    try:
        Image.new(mode, (1, 1)).convert("RGB")
    except ValueError:
        return False
    return True


def _why_unreadable(path: Path, error: Exception) -> _Observation:
    if isinstance(error, OSError) and error.errno is not None:
        return _Observation(_NOT_ACCESSIBLE, f"({error.strerror})")
    with contextlib.suppress(OSError), path.open("rb") as opened:
        begin = opened.read(_ENDS)
        if not begin:
            return _Observation("that are empty", "")
        if begin.startswith(LFS_POINTER):
            return _Observation("that are pointers of Git LFS", "")
        if begin.lstrip().lower().startswith((b"<html", b"<!doctype html")):
            return _Observation("that are web pages", "")
    return _Observation("unreadable", f"({one_line(error, 80)})")


def _ends_well(path: Path, kind: Any) -> bool:
    """Whether a JPEG or PNG file has its end marker: what an interrupted copy lacks."""
    with path.open("rb") as opened:
        opened.seek(0, os.SEEK_END)
        opened.seek(-min(_ENDS, opened.tell()), os.SEEK_END)
        tail = opened.read()
    return (kind == "JPEG" and tail.rstrip(b"\0").endswith(b"\xff\xd9")) or (kind == "PNG" and b"IEND" in tail)
