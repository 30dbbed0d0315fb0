"""Pictures without annotations: fault them, and reading one.

What a folder holds is taken by the names: pictures and videos, also in the folders below and behind links. Hidden files
and folders are left out, and so is what `predict` wrote.
"""

import contextlib
import glob
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dynrcnn_ray.config.errors import DynrcnnError, one_line, system_line
from dynrcnn_ray.config.uris import check_key, shown_uri, without_secrets
from dynrcnn_ray.data.annotations import LFS_POINTER, DataError
from dynrcnn_ray.data.orientation import deep_mode, upright_rgb

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".avif", ".jp2", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_LARGEST = 2**28
"""Pixels; a small file may unpack to more."""
_LARGEST_FILE = 2**31
"""Bytes: more than so many pixels have in any kind of file."""
_OUTPUT = {"images.json", "results.json", "detections.parquet", "bad_files.txt"}
"""The files by which a folder that `predict` wrote is known."""
_HIDDEN = "hidden"
_MOST_KINDS_SHOWN = 5
_MOST_BYTES_OF_A_NAME = 150

Pixels = NDArray[np.uint8]


class Listing(NamedTuple):
    """What was found.

    Attributes:
        paths: pictures: absolute paths, or URIs without credentials and options, sorted.
        videos: the same of videos.
        left_out: how many files of a folder are neither by their names, by suffix; hidden pictures are "hidden".
        unreadable: a line for each folder that cannot be read.
        source: the URI whose file system has them; empty: this machine's.
    """

    paths: list[str]
    videos: Sequence[str] = ()
    left_out: Mapping[str, int] = {}
    unreadable: Sequence[str] = ()
    source: str = ""

    def describe_left_out(self) -> str:
        """How many files were left out, and of what kinds; empty if none was."""
        if not self.left_out:
            return ""
        kinds = sorted(self.left_out.items(), key=lambda kind: (-kind[1], kind[0]))
        shown = [f"{count} {suffix or 'without a suffix'}" for suffix, count in kinds[:_MOST_KINDS_SHOWN]]
        more = ["others"] if len(kinds) > _MOST_KINDS_SHOWN else []
        total = sum(self.left_out.values())
        return f"{total} files that are hidden or no pictures by their names ({', '.join(shown + more)})"


class UnreadablePictureError(DynrcnnError, ValueError):
    """A picture that cannot be read. Its text says why."""

    would_repeat = True


def find_pictures(where: str, *, without: Collection[Path] = ()) -> Listing:
    """The pictures and videos that a folder (with those below it), a pattern, a file or a URI names.

    Args:
        where: a path, a pattern such as `shots/*.png`, which takes files of any name, or a URI.
        without: folders in which nothing is looked for.

    Raises:
        DataError: there is none.
    """
    if "://" in where:
        found = _below_uri(where, without)
    elif Path(where).expanduser().is_dir():
        found = _below_folder(Path(where).expanduser(), without)
    elif Path(where).expanduser().is_file():
        found = _of_any_name([str(Path(where).expanduser().absolute())])
    else:
        matches = glob.glob(str(Path(where).expanduser()), recursive=True)
        named = sorted({str(Path(match).absolute()) for match in matches if _may_be_a_file(match)})
        found = _of_any_name([file for file in named if not _is_below(file, without)])
    if not found.paths and not found.videos:
        why = "".join(f"; {text}" for text in (found.describe_left_out(), *found.unreadable) if text)
        raise DataError(
            f"--images: {shown_uri(where)!r} holds no pictures{why}; give a folder, a pattern in quotes or a video"
        )
    return found


def is_video(where: str) -> bool:
    """Whether a name is that of a video."""
    return where.lower().endswith(VIDEO_SUFFIXES)


def printable(path: str) -> str:
    """A path as text that any file and terminal takes: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def plain_stem(name: str) -> str:
    """A file's name without folders and suffix, as any file system takes it."""
    plain = "".join(each if each.isprintable() and each not in "\\/" else "_" for each in Path(name).stem)
    return plain.encode()[:_MOST_BYTES_OF_A_NAME].decode(errors="ignore")


def file_system(source: str) -> pafs.FileSystem | None:
    """The file system of `Listing.source`; None for this machine's."""
    return pafs.FileSystem.from_uri(source)[0] if source else None


def read_content(path: str, files: pafs.FileSystem | None = None) -> bytes:
    """The bytes of a listed file.

    Args:
        path: of `Listing.paths`.
        files: from `file_system`.

    Raises:
        UnreadablePictureError: they cannot be read.
    """
    try:
        if files is None:
            _refuse_large_file(os.stat(path).st_size)
            return Path(path).read_bytes()
        with files.open_input_file(path.partition("://")[2]) as file:
            _refuse_large_file(file.size())
            return file.read()
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        if isinstance(error, UnreadablePictureError):
            raise
        raise UnreadablePictureError(system_line(error, 120)) from None


def _refuse_large_file(num_bytes: int) -> None:
    if num_bytes > _LARGEST_FILE:
        raise UnreadablePictureError(f"the file has {num_bytes / 2**30:.1f} GiB, too many for a picture")


def decode_picture(content: bytes, *, before_unpacking: Callable[[int], None] = lambda num_bytes: None) -> Pixels:
    """The pixels of a picture, turned upright as its EXIF orientation says: RGB `[H, W, 3]`.

    Args:
        content: of the file.
        before_unpacking: told how many bytes the pixels will have; may wait until there is room.

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
            if mode := deep_mode(image):
                raise UnreadablePictureError(f"not of 8 bits a channel (mode {mode})")
            before_unpacking(3 * image.width * image.height)
            return upright_rgb(image)
    except UnreadablePictureError:
        raise
    except UnidentifiedImageError:
        raise UnreadablePictureError("no picture of a known kind") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes.
        raise UnreadablePictureError(system_line(error, 120)) from None


def _may_be_a_file(path: str) -> bool:
    """Whether it is one, or a dangling link, which is reported; not a folder, a pipe or a device."""
    return os.path.isfile(path) or not os.path.exists(path)


def _is_below(path: str, folders: Collection[Path]) -> bool:
    return any(folder in (Path(path), *Path(path).parents) for folder in folders)


def _of_any_name(files: Sequence[str]) -> Listing:
    """Files that were named: all but videos are tried as pictures."""
    return Listing([file for file in files if not is_video(file)], [file for file in files if is_video(file)])


def _by_name(files: Sequence[str]) -> Listing:
    named = [file for file in files if not os.path.basename(file).startswith(".")]
    hidden = [file for file in files if os.path.basename(file).startswith(".") and file.lower().endswith(SUFFIXES)]
    others = [file for file in named if not file.lower().endswith((*SUFFIXES, *VIDEO_SUFFIXES))]
    left_out = Counter(printable(os.path.splitext(file)[1].lower()) for file in others)
    return Listing(
        sorted(file for file in named if file.lower().endswith(SUFFIXES)),
        sorted(file for file in named if is_video(file)),
        left_out + Counter({_HIDDEN: len(hidden)}),
    )


def _below_folder(folder: Path, without: Collection[Path]) -> Listing:
    unreadable: list[str] = []

    def tell(error: OSError) -> None:
        unreadable.append(f"{printable(os.fsdecode(error.filename))}: {error.strerror}")

    files = list(_files_below(folder.absolute(), without, tell))
    return _by_name(files)._replace(unreadable=unreadable)


def _files_below(folder: Path, without: Collection[Path], tell: Callable[[OSError], None]) -> Iterator[str]:
    """The files of a folder and of those below it, links followed; a folder that several links name is read once."""
    # As links may lead back, and to an excluded folder by another name.
    seen = {_identity(each) for each in without}
    for parent, folders, names in os.walk(folder, onerror=tell, followlinks=True):
        identity = _identity(parent)
        is_of_predict = set(names) >= _OUTPUT and Path(parent) != folder
        if (identity is not None and identity in seen) or is_of_predict:
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from filter(os.path.isfile, (os.path.join(parent, name) for name in names))


def _identity(folder: str | Path) -> tuple[int, int] | None:
    """A folder's device and inode, which all of its names share; None if it is not there."""
    with contextlib.suppress(OSError):
        stat = os.stat(folder)
        return stat.st_dev, stat.st_ino
    return None


def _below_uri(uri: str, without: Collection[Path]) -> Listing:
    scheme = uri.partition("://")[0]
    try:
        check_key(uri)
        filesystem, inner = pafs.FileSystem.from_uri(uri)
        if filesystem.type_name == "local":
            return find_pictures(_as_is(inner), without=without)
        info = filesystem.get_file_info(inner)
        if info.type == pafs.FileType.File:
            return _of_any_name([f"{scheme}://{info.path}"])._replace(source=uri)
        files = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    except DataError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        said = without_secrets(one_line(error), uri)[:120]
        raise DataError(f"--images: {scheme}://... cannot be read: {said}") from None
    return _by_name(_shown(scheme, inner, files))._replace(source=uri)


def _as_is(path: str) -> str:
    """A path that names one file or folder, whatever characters it has."""
    return path if os.path.exists(path) else glob.escape(path)


def _shown(scheme: str, inner: str, files: Sequence[pafs.FileInfo]) -> list[str]:
    """The URIs of files of which no folder below is hidden."""
    below = [(file.path, file.path.removeprefix(inner).split("/")[:-1]) for file in files if file.is_file]
    return [f"{scheme}://{path}" for path, folders in below if not any(each.startswith(".") for each in folders)]
