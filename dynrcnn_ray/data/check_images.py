"""Whether the image files are there, can be read and have the annotated sizes."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image

from dynrcnn_ray.data.check import CheckedSplit
from dynrcnn_ray.data.findings import Finding, Records

_RULES_VERSION = 1
"""Part of the key of remembered results: raise it with every change of what is refused."""
_THREADS = 8
_CHUNK = 64
_TAIL = 64
# What Pillow would clip to 8 bits, most of it to white.
_DEEP_MODES = ("I", "F")
_REMEDIES = {
    "missing": "restore them, or leave them out with --data.drop-invalid",
    "not accessible": "check the permissions and the disk",
    "unreadable": "copy them again, or leave them out with --data.drop-invalid",
    "of another size than annotated": "correct width and height, or turn the pixels as the image's EXIF data say",
    "not of 8 bits a channel": "convert them to 8 bits",
}


class _ImageFile(NamedTuple):
    path: str
    width: int
    height: int


class _Problem(NamedTuple):
    kind: str
    """A key of `_REMEDIES`."""
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
        `checked` with the findings, less the images that cannot be used and their annotations.
    """
    if checked.content is None:
        return checked
    all_images = checked.content["images"]
    images = Records(checked.file, "image", [all_images[row] for row in checked.image_rows.tolist()])
    files = [_ImageFile(image["file_name"], image["width"], image["height"]) for image in images.left]
    problems = _remembered_problems(folder, files, cache, decode=decode, on_progress=on_progress)
    kinds = {kind: np.zeros(len(files), dtype=bool) for kind in _REMEDIES}
    for row, problem in problems.items():
        kinds[problem.kind][row] = True
    for kind, remedy in _REMEDIES.items():
        rows = images.rows.tolist()
        images.refuse(
            kinds[kind][images.rows],
            f"{folder} holds images {kind}" if kind != "missing" else f"{folder} lacks images",
            remedy,
            lambda at, rows=rows: f"{files[rows[at]].path!r} {problems[rows[at]].detail}".rstrip(),
        )
    dropped_ids = {all_images[checked.image_rows[row]]["id"] for row in problems}
    annotations = checked.content["annotations"]
    rows = checked.annotation_rows.tolist()
    kept = [row for row in rows if annotations[row]["image_id"] not in dropped_ids] if problems else rows
    left = dataclasses.replace(
        checked,
        findings=[*checked.findings, *images.findings],
        image_rows=checked.image_rows[images.rows],
        annotation_rows=np.array(kept, dtype=np.int64),
    )
    if checked.num_objects() and not left.num_objects():
        left.findings.append(Finding(checked.file, "file", "no image with objects can be used", "restore the images"))
    return left


def _remembered_problems(
    folder: Path,
    files: Sequence[_ImageFile],
    cache: Path,
    *,
    decode: bool,
    on_progress: Callable[[int, int], None],
) -> dict[int, _Problem]:
    """The problem of each image that has one, by position in `files`."""
    states = _states(folder, files)
    # What holds for all pixels holds for the headers too.
    for whole in (True,) if decode else (True, False):
        with contextlib.suppress(OSError, ValueError, TypeError):
            remembered = json.loads((cache / f"{_key(folder, files, states, decode=whole)}.json").read_bytes())
            return {int(row): _Problem(*problem) for row, problem in remembered.items()}
    problems: dict[int, _Problem] = {}
    starts = range(0, len(files), _CHUNK)
    with ThreadPoolExecutor(_THREADS) as pool:
        chunks = pool.map(lambda start: _problems(folder, files[start : start + _CHUNK], decode=decode), starts)
        for start, found in zip(starts, chunks, strict=True):
            problems |= {start + row: problem for row, problem in found.items()}
            on_progress(min(start + _CHUNK, len(files)), len(files))
    if any(problem.kind == "not accessible" for problem in problems.values()):
        # That passes without the file changing.
        return problems
    file = cache / f"{_key(folder, files, states, decode=decode)}.json"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(problems))
        partial.replace(file)
    return problems


def _states(folder: Path, files: Sequence[_ImageFile]) -> list[tuple[int, int] | None]:
    """Bytes and time of change of each file; None for one that is not there."""
    found: dict[str, tuple[int, int]] = {}
    for parent in {os.path.dirname(file.path) for file in files}:
        for name, state in _scan(folder / parent):
            found[os.path.join(parent, name)] = state
    return [found.get(os.path.normpath(file.path)) for file in files]


def _scan(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                stat = entry.stat()
                yield entry.name, (stat.st_size, stat.st_mtime_ns)


def _key(folder: Path, files: Sequence[_ImageFile], states: Sequence[tuple[int, int] | None], *, decode: bool) -> str:
    what = [_RULES_VERSION, PIL.__version__, decode, str(folder.absolute()), files, states]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _problems(folder: Path, files: Sequence[_ImageFile], *, decode: bool) -> dict[int, _Problem]:
    found = ((row, _problem(folder, file, decode=decode)) for row, file in enumerate(files))
    return {row: problem for row, problem in found if problem is not None}


def _problem(folder: Path, file: _ImageFile, *, decode: bool) -> _Problem | None:
    path = folder / file.path
    try:
        with Image.open(path) as image:
            if image.size != (file.width, file.height):
                real = f"{image.width}x{image.height}, annotated {file.width}x{file.height}"
                return _Problem("of another size than annotated", real)
            if image.mode.startswith(_DEEP_MODES):
                return _Problem("not of 8 bits a channel", f"mode {image.mode}")
            if decode or not _ends_well(path, image.format):
                image.convert("RGB")
    except FileNotFoundError:
        return _Problem("missing", "")
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        if isinstance(error, OSError) and error.errno is not None:
            return _Problem("not accessible", f"({error.strerror})")
        return _Problem("unreadable", f"({' '.join(str(error).split())[:80] or type(error).__name__})")
    return None


def _ends_well(path: Path, kind: Any) -> bool:
    """Whether a JPEG or PNG file has its end marker: what an interrupted copy lacks."""
    with path.open("rb") as opened:
        opened.seek(0, os.SEEK_END)
        opened.seek(-min(_TAIL, opened.tell()), os.SEEK_END)
        tail = opened.read()
    return (kind == "JPEG" and tail.rstrip(b"\0").endswith(b"\xff\xd9")) or (kind == "PNG" and b"IEND" in tail)
