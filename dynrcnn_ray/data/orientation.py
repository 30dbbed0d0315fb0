"""Pixels as the annotations mean them: turned upright as the EXIF orientation says, unless the annotated size refuses.

Labelling tools show pictures upright, and annotate them so. The check, the loader and everything that shows or measures
an image read it here.
"""

import contextlib
import mmap
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin

from dynrcnn_ray.config.errors import DynrcnnError

# Pillow's limits against small files that unpack to gigabytes. Here an image is unpacked only if it has the annotated
# size, which is the limit then.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = 64 * 2**20
# Nobody needs broken EXIF data, and a line for each such image would hide the others.
warnings.filterwarnings("ignore", "Corrupt EXIF data")

_DEEP_MODES = ("I", "F")
"""How Pillow's modes begin that it would clip to 8 bits, most of it to white."""
_OF_16_BITS = re.compile("(L|LA|RGB|RGBA);16[BLN]")
"""How Pillow calls what PNG files hold; BGR;16 has 16 bits in all."""
_BITS_A_CHANNEL = 258
"""TIFF's tag."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes pixels of an EXIF orientation upright."""
_BACK = _TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_SIDEWAYS = (5, 6, 7, 8)
_PNG_MARKS = (b"eXIf", b"tiff:Orientation", b"Raw profile type exif")


class View(NamedTuple):
    """How an image file may be seen.

    Attributes:
        orientation: EXIF orientation, 1 to 8; 1 where there is none or none that can be read.
        stored: Width and height of the pixels as they are stored.
        upright: Width and height once they are turned.
    """

    orientation: int
    stored: tuple[int, int]
    upright: tuple[int, int]

    def is_upright(self, width: int, height: int) -> bool | None:
        """Whether an annotated size means the upright image, False: the stored one, None: neither."""
        if (width, height) == self.upright:
            return True
        return False if (width, height) == self.stored else None


def deep_mode(image: Image.Image) -> str:
    """What an opened image has in the place of 8 bits a channel, such as I;16 or RGB;16B; empty if it has 8.

    Of 16 bits in colour, in PNG and TIFF, Pillow keeps the upper 8. What a camera or a microscope wrote with 10 or 12
    is black then. Its pixels must not have been read.
    """
    if image.mode.startswith(_DEEP_MODES):
        return image.mode
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(_BITS_A_CHANNEL, (1,)))
        return f"{image.mode};{bits}" if bits > 8 else ""
    stored = (tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(image, "tile", ()) if tile[3])
    return next((mode for mode in stored if isinstance(mode, str) and _OF_16_BITS.fullmatch(mode)), "")


def view(image: Image.Image, path: Path) -> View:
    """Look at an opened image, without reading its pixels if that can be avoided."""
    size = image.size
    orientation = _orientation(image, path)
    swapped = (size[1], size[0]) if orientation in _SIDEWAYS else size
    # Pillow turns TIFF by itself when it reads the pixels, and tells the size after that.
    return View(orientation, swapped, size) if image.format == "TIFF" else View(orientation, size, swapped)


def read_pixels(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Read an image of the annotated size.

    Returns:
        RGB pixels `[height, width, 3]`.

    Raises:
        WrongSizeError: the image has another size, both upright and as stored.
        Exception: Pillow's decoders raise nearly anything on broken bytes.
    """
    with Image.open(path) as image:
        seen = view(image, path)
        upright = seen.is_upright(width, height)
        if upright is None:
            raise WrongSizeError("{}x{}".format(*seen.upright))
        is_turned = image.format == "TIFF"
        pixels = image.convert("RGB")
    if seen.orientation != 1 and upright != is_turned:
        pixels = pixels.transpose((_TURNS if upright else _BACK)[seen.orientation])
    return np.array(pixels)


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an open picture that nothing is annotated in, `[height, width, 3]`, turned by its EXIF data.

    It must have 8 bits a channel, see `deep_mode`.
    """
    image.load()
    with contextlib.suppress(Exception):  # Broken EXIF data spoil no picture.
        ImageOps.exif_transpose(image, in_place=True)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


class WrongSizeError(DynrcnnError, ValueError):
    """An image that has another size than annotated. Its text is that size."""

    would_repeat = True


def _orientation(image: Image.Image, path: Path) -> int:
    try:
        if isinstance(image, PngImagePlugin.PngImageFile) and not _may_have_exif(image, path):
            return 1
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parsers raise nearly anything on broken EXIF data.
        return 1
    return value if value in _TURNS else 1


def _may_have_exif(image: Image.Image, path: Path) -> bool:
    """Whether a PNG file may hold EXIF data: Pillow reads all pixels to find those that stand behind them."""
    if "exif" in image.info or "Raw profile type exif" in image.info:
        return True
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in _PNG_MARKS)
