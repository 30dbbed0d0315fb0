"""Pictures are found by folder, pattern and URI, turned upright, and refused one by one."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.tools.predict.pictures import (
    Listing,
    UnreadablePictureError,
    decode_picture,
    file_system,
    find_pictures,
    is_video,
    read_content,
)


def picture(size: tuple[int, int] = (4, 3), mode: str = "RGB", kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def test_pictures_are_found(tmp_path: Path):
    for name in ("b.JPG", "a.png", "below/c.webp", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture())
    names = [str(tmp_path / name) for name in ("a.png", "b.JPG", "below/c.webp")]
    assert find_pictures(str(tmp_path)) == Listing(names, [], {".txt": 1}, [])
    assert find_pictures(str(tmp_path / "*.png")).paths == names[:1]
    assert find_pictures(str(tmp_path / "a.png")).paths == names[:1]
    found = find_pictures(tmp_path.as_uri())
    assert [path.removeprefix("file://") for path in found.paths] == names
    assert read_content(found.paths[0], file_system(found.source)) == picture()
    for nothing in ("*.gif", "nowhere"):
        with pytest.raises(DataError, match=r"holds no pictures; give a folder, a pattern in quotes or a video"):
            find_pictures(str(tmp_path / nothing))
    assert is_video("a.MP4")
    assert not is_video("a.png")


def test_what_a_folder_holds_is_taken_by_rule(tmp_path: Path):
    """Hidden files, kinds that are not read and pipes are left out; the same folder by two links is read once."""
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    kinds = [f"a{suffix}" for suffix in (".avif", ".jfif", ".JP2", ".pnm")]
    hidden = [".hidden.jpg", ".cache/a.jpg", ".DS_Store"]
    for name in (*kinds, *hidden, "film.MP4", "x.heic", "none"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to(tmp_path / "gone")
    outside.mkdir()
    (outside / "o.jpg").write_bytes(picture())
    for name in ("link", "same"):
        (folder / name).symlink_to(outside)
    (outside / "back").symlink_to(folder)
    (outside / "itself").symlink_to(outside)
    found = find_pictures(str(folder))
    assert found.paths == sorted(str(folder / name) for name in (*kinds, "link/o.jpg"))
    assert found.videos == [str(folder / "film.MP4")]
    assert found.left_out == {".heic": 1, "": 1, "hidden": 1}
    assert found.describe_left_out() == (
        "3 files that are hidden or no pictures by their names (1 without a suffix, 1 .heic, 1 hidden)"
    )
    by_pattern = find_pictures(str(folder / "*"))
    # What somebody names is tried, whatever its name; folders and pipes are not.
    assert by_pattern.paths == sorted(str(folder / name) for name in (*kinds, "gone.jpg", "none", "x.heic"))
    assert by_pattern.videos == found.videos
    for nothing in ("pipe.jpg", "pipe*"):
        with pytest.raises(DataError, match="holds no pictures"):
            find_pictures(str(folder / nothing))


def test_what_predict_wrote_is_not_read(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(picture())
    for out in ("earlier", "out", "below/out.partial"):
        (tmp_path / out / "pictures").mkdir(parents=True)
        (tmp_path / out / "pictures" / "00000001_a.jpg").write_bytes(picture())
    for name in ("images.json", "results.json", "detections.parquet", "bad_files.txt"):
        (tmp_path / "earlier" / name).write_text("")
    without = (tmp_path / "out", tmp_path / "below" / "out.partial")
    for where in (str(tmp_path), tmp_path.as_uri()):
        assert find_pictures(where, without=without).paths == [str(tmp_path / "a.jpg")]
    pattern = find_pictures(str(tmp_path / "**" / "*.jpg"), without=without).paths
    assert pattern == [str(tmp_path / name) for name in ("a.jpg", "earlier/pictures/00000001_a.jpg")]
    # Who names it means it.
    assert len(find_pictures(str(tmp_path / "earlier")).paths) == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "closed").mkdir(mode=0)
    assert find_pictures(str(tmp_path)).unreadable == [f"{tmp_path / 'closed'}: Permission denied"]


def test_any_file_name_is_found_and_read(tmp_path: Path):
    folder = tmp_path / "my photos 100%"
    folder.mkdir()
    names = sorted(["my photo.jpg", "50%.jpg", "img[1].jpg", "a#1.jpg", "q?.jpg", "%20.jpg"])
    for name in names:
        (folder / name).write_bytes(picture())
        assert find_pictures(str(folder / name)).paths == [str(folder / name)]
        one = find_pictures((folder / name).as_uri())
        assert read_content(one.paths[0], file_system(one.source)) == picture()
    found = find_pictures(folder.as_uri())
    assert [Path(path).name for path in found.paths] == names
    for path in found.paths:
        assert read_content(path, file_system(found.source)) == picture()


def test_pixels_are_upright_rgb():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_picture(picture()).shape == (3, 4, 3)
    assert decode_picture(picture(exif=exif.tobytes(), kind="JPEG")).shape == (4, 3, 3)
    for mode in ("L", "P", "RGBA", "LA", "1"):
        decoded = decode_picture(picture(mode=mode))
        assert decoded.dtype == np.uint8
        assert decoded.shape == (3, 4, 3)


def huge_header() -> bytes:
    """A PNG of 60000 x 60000 pixels in a few bytes."""
    content = bytearray(picture())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"no picture", "no picture of a known kind"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (picture((64, 64), kind="JPEG")[:200], "Truncated"),
        (picture(mode="I;16"), r"not of 8 bits a channel \(mode I;16\)"),
        (huge_header(), "60000x60000 pixels are too many"),
    ],
)
def test_a_bad_picture_says_why(content: bytes, why: str):
    with pytest.raises(UnreadablePictureError, match=why) as caught:
        decode_picture(content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_why(tmp_path: Path):
    with pytest.raises(UnreadablePictureError, match="No such file or directory"):
        read_content(str(tmp_path / "gone.png"))
