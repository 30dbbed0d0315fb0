"""Images of more than 8 bits a channel are refused, in colour too: of 10 bits, Pillow would keep the upper 2."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.orientation import deep_mode
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.tools.predict.pictures import UnreadablePictureError, decode_picture
from tests.data.broken_sets import HEIGHT, WIDTH, valid_content, write, write_valid


def png(channels: int) -> bytes:
    """A PNG file whose values have 10 bits in 16."""
    values = np.random.default_rng(0).integers(1024, size=(HEIGHT, WIDTH, channels)).astype(">u2")
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff() -> bytes:
    """The same in colour as a TIFF file of one strip."""
    pixels = np.random.default_rng(0).integers(1024, size=(HEIGHT, WIDTH, 3)).astype("<u2").tobytes()
    tags = {256: WIDTH, 257: HEIGHT, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: HEIGHT, 279: len(pixels)}
    behind = 8 + 2 + 12 * len(tags) + 4
    tags |= {258: behind, 273: behind + 6}
    entries = (
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value) for tag, value in tags.items()
    )
    bits = struct.pack("<HHH", 16, 16, 16)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + struct.pack("<I", 0) + bits + pixels


def with_exif_behind_the_pixels(content: bytes) -> bytes:
    """Whoever looks for it there has read the pixels."""
    body = b"eXIf" + b"II*\x00\x08\x00\x00\x00\x00\x00"
    return content[:-12] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + content[-12:]


DEEP = {
    "late.png": with_exif_behind_the_pixels(png(3)),
    **{f"{name}.png": png(channels) for channels, name in enumerate(("L", "LA", "RGB", "RGBA"), 1)},
    "RGB.tif": tiff(),
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_are_refused_where_labels_are_and_where_none_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "set"
    write_valid(root)
    labels = valid_content()
    labels["images"][1]["file_name"] = name
    write(root, "train", labels)
    (root / "train" / name).write_bytes(DEEP[name])

    with pytest.raises(DataError, match=rf"not of 8 bits a channel: 1 image \(id \d+: '{name}' mode \w+;16"):
        prepare_data(DataConfig(root=str(root)))
    with pytest.raises(UnreadablePictureError, match=r"not of 8 bits a channel \(mode \w+;16"):
        decode_picture(DEEP[name])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "BMP", "GIF"])
def test_eight_bits_are_taken(kind: str) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        buffer = io.BytesIO()
        try:
            Image.new(mode, (WIDTH, HEIGHT)).save(buffer, kind)
        except (OSError, ValueError):
            continue  # A kind of file does not have all modes.
        with Image.open(buffer) as image:
            assert deep_mode(image) == "", mode
        assert decode_picture(buffer.getvalue()).shape == (HEIGHT, WIDTH, 3)


def test_a_bitmap_of_five_six_and_five_bits_is_taken() -> None:
    header = struct.pack("<2sIHHI", b"BM", 66 + 8, 0, 0, 66) + struct.pack(
        "<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0
    )
    content = (
        header + struct.pack("<III", 0xF800, 0x07E0, 0x001F) + struct.pack("<HHHH", 0xF800, 0x07E0, 0x001F, 0xFFFF)
    )
    with Image.open(io.BytesIO(content)) as image:
        assert deep_mode(image) == ""
    assert decode_picture(content)[1, 0].tolist() == [255, 0, 0]
