"""Pictures without annotations: finding them, and reading one."""

import glob
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dynrcnn_ray.data.annotations import LFS_POINTER, DataError
from dynrcnn_ray.uris import check_key, shown_uri, without_secrets

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_LARGEST = 2**28
"""Pixels; a small file may unpack to more."""
_DEEP_MODES = ("I", "F")


class Listing(NamedTuple):
    """What was found.

    Attributes:
        paths: absolute paths, or URIs without credentials and options, sorted.
        others: how many files of a folder are no pictures by their names.
        source: the URI whose file system has them; empty: this machine's.
    """

    paths: list[str]
    others: int = 0
    source: str = ""


class UnreadablePictureError(ValueError):
    """A picture that cannot be read. Its text says why."""


def find_pictures(where: str) -> Listing:
    """The pictures that a folder (with those below it), a pattern such as `shots/*.png`, a file or a URI names.

    Raises:
        DataError: there is none.
    """
    if "://" in where:
        found = _below_uri(where)
    elif Path(where).expanduser().is_dir():
        files = [str(file.absolute()) for file in Path(where).expanduser().rglob("*") if file.is_file()]
        found = _by_name(files)
    elif Path(where).expanduser().is_file():
        found = Listing([str(Path(where).expanduser().absolute())])
    else:
        pattern = str(Path(where).expanduser())
        found = Listing(sorted(str(Path(file).absolute()) for file in glob.glob(pattern, recursive=True)))
    if not found.paths:
        others = f" among {found.others} files" if found.others else ""
        raise DataError(
            f"--images: {shown_uri(where)!r} holds no pictures{others}; give a folder, a pattern in quotes or a video"
        )
    return found


def is_video(where: str) -> bool:
    """Whether a name is that of a video."""
    return where.lower().endswith(VIDEO_SUFFIXES)


def file_system(source: str) -> pafs.FileSystem | None:
    """The file system of `Listing.source`; None for this machine's."""
    return pafs.FileSystem.from_uri(source)[0] if source else None


def read_content(path: str, files: pafs.FileSystem | None = None) -> bytes:
    """The bytes of a listed file.

    Args:
        path: of `Listing.paths`.
        files: from `file_system`.

    Raises:
        UnreadablePictureError: the system does not give them.
    """
    try:
        if files is None:
            return Path(path).read_bytes()
        with files.open_input_file(path.partition("://")[2]) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise UnreadablePictureError(getattr(error, "strerror", None) or _one_line(error)) from None


def decode_picture(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a picture, turned upright as its EXIF orientation says: RGB `[H, W, 3]`.

    Raises:
        UnreadablePictureError: it is none, is broken, or has values that 8 bits do not hold.
    """
    if not content:
        raise UnreadablePictureError("the file is empty")
    if content.startswith(LFS_POINTER):
        raise UnreadablePictureError("a pointer of Git LFS; fetch it with `git lfs pull`")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > _LARGEST:
                raise UnreadablePictureError(f"{image.width}x{image.height} pixels are too many")
            if image.mode.startswith(_DEEP_MODES):
                raise UnreadablePictureError(f"not of 8 bits a channel (mode {image.mode})")
            return np.array(_upright(image).convert("RGB"))
    except UnreadablePictureError:
        raise
    except UnidentifiedImageError:
        raise UnreadablePictureError("no picture of a known kind") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        raise UnreadablePictureError(_one_line(error) or type(error).__name__) from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Broken EXIF data spoil no picture.
        return image


def _by_name(files: Sequence[str]) -> Listing:
    pictures = sorted(file for file in files if file.lower().endswith(SUFFIXES))
    return Listing(pictures, len(files) - len(pictures))


def _below_uri(uri: str) -> Listing:
    scheme = uri.partition("://")[0]
    try:
        check_key(uri)
        filesystem, inner = pafs.FileSystem.from_uri(uri)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.File:
            return Listing([f"{scheme}://{info.path}"], source=uri)
        files = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        said = without_secrets(" ".join(str(error).split()), uri)[:120]
        raise DataError(f"--images: {scheme}://... cannot be read: {said}") from None
    found = _by_name([f"{scheme}://{file.path}" for file in files if file.type == pafs.FileType.File])
    return found._replace(source=uri)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
