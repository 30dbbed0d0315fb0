"""EXIF orientation: what the annotations show is what is checked, loaded, stored as an example and measured."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.examples import example_images
from dynrcnn_ray.data.orientation import read_pixels
from dynrcnn_ray.data.prepare import check_data, prepare_data
from tests.data.broken_sets import HEIGHT, WIDTH, load_and_measure, valid_content, write, write_valid

STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright scene under each orientation, which says how to turn it back."""
SIDEWAYS = (5, 6, 7, 8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def scene() -> Image.Image:
    """Blocks of 10 pixels, all of different colours, which compression leaves apart."""
    blocks = np.random.default_rng(1).integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), dtype=np.uint8)))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def is_like(pixels: np.ndarray, image: Image.Image, tolerance: float = 8) -> bool:
    expected = np.array(image)
    return pixels.shape == expected.shape and np.abs(pixels.astype(int) - expected.astype(int)).mean() < tolerance


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_the_annotated_size_decides(tmp_path: Path, kind: str, options: dict[str, Any], orientation: int) -> None:
    """Upright where that fits; as stored where only that fits."""
    stored = scene().transpose(STORED_AS[orientation])
    stored.save(tmp_path / "image", kind, exif=exif(orientation), **options)
    assert is_like(read_pixels(tmp_path / "image", WIDTH, HEIGHT), scene())
    if orientation in SIDEWAYS:
        assert is_like(read_pixels(tmp_path / "image", HEIGHT, WIDTH), stored)


def test_exif_data_behind_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    stream = io.BytesIO()
    scene().transpose(STORED_AS[6]).save(stream, "PNG")
    png = stream.getvalue()
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", exif(6)[6:])
    end = png.index(b"IEND") - 4
    (tmp_path / "image").write_bytes(png[:end] + chunk.getvalue() + png[end:])
    assert is_like(read_pixels(tmp_path / "image", WIDTH, HEIGHT), scene())


@pytest.mark.parametrize("value", [0, 1, 9, 255])
def test_an_orientation_that_is_none_is_ignored(tmp_path: Path, value: int) -> None:
    scene().save(tmp_path / "image", "JPEG", quality=95, exif=exif(value))
    assert is_like(read_pixels(tmp_path / "image", WIDTH, HEIGHT), scene())


@pytest.mark.parametrize("broken", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\x01" * 40])
def test_broken_exif_data_spoil_no_image(tmp_path: Path, broken: bytes) -> None:
    scene().save(tmp_path / "image", "JPEG", quality=95, exif=broken)
    assert is_like(read_pixels(tmp_path / "image", WIDTH, HEIGHT), scene())


def photograph(root: Path, orientations: dict[int, int], *, displayed: bool = True) -> None:
    """Store images of both splits with an orientation; without `displayed`, their sizes are annotated as stored."""
    for split in ("train", "val"):
        content = valid_content()
        for image in content["images"]:
            orientation = orientations.get(image["id"], 1)
            stored = scene().transpose(STORED_AS[orientation]) if orientation != 1 else scene()
            stored.save(root / split / image["file_name"], "PNG", exif=exif(orientation))
            if not displayed:
                image |= {"width": stored.width, "height": stored.height}
        if not displayed:
            for record in content["annotations"]:
                record |= {"bbox": [2, 3, 10, 10], "area": 100, "segmentation": [[2, 3, 12, 3, 12, 13]], "iscrowd": 0}
        write(root, split, content)


def notes(data: DataConfig) -> list[str]:
    return [str(fault) for fault in check_data(data)["train"].faults]


@pytest.mark.parametrize("orientation", STORED_AS)
def test_check_loader_and_examples_see_what_the_labelling_tool_showed(root: Path, orientation: int) -> None:
    photograph(root, {11: orientation, 15: orientation})
    data = DataConfig(root=str(root))
    (note,) = notes(data)
    assert "holds images with an EXIF orientation: 2 images (id 11: '11.png', id 15: '15.png'); turned upright" in note
    assert notes(data) == [note]  # Remembered.
    for dataset in load_and_measure(data).values():
        for index in range(3):
            pixels, _ = dataset[Sample(index, flip=False)]
            assert is_like(pixels.permute(1, 2, 0).numpy(), scene())
        for row in example_images(dataset):
            shown = Image.open(io.BytesIO(row["jpeg"]))
            assert (row["width"], row["height"]) == shown.size == (WIDTH, HEIGHT)
            assert is_like(np.array(shown), scene(), tolerance=20)
            assert not is_like(np.array(shown.transpose(Image.Transpose.ROTATE_180)), scene(), tolerance=40)


def test_sizes_as_stored_mean_the_pixels_as_stored(root: Path) -> None:
    photograph(root, {11: 6, 12: 3}, displayed=False)
    stored, turned = (line for line in notes(DataConfig(root=str(root))) if "EXIF" in line)
    assert "leaves their size as it is, beside others annotated as they are stored: 1 image (id 12: '12.png')" in turned
    assert turned.endswith(
        "turned upright; if their boxes are for the pixels as stored, remove the orientation from these files"
    )
    assert "fits the pixels as stored and not their EXIF orientation: 1 image (id 11: '11.png')" in stored
    dataset = CocoDataset(prepare_data(DataConfig(root=str(root))).root, "train")
    assert is_like(dataset[Sample(0, flip=False)][0].permute(1, 2, 0).numpy(), scene().transpose(STORED_AS[6]))
    assert is_like(dataset[Sample(1, flip=False)][0].permute(1, 2, 0).numpy(), scene())


def test_a_size_that_fits_neither_is_refused(root: Path) -> None:
    photograph(root, {11: 6})
    content = valid_content()
    content["images"][0]["width"] += 1
    write(root, "train", content)
    data = DataConfig(root=str(root))
    with pytest.raises(
        DataError, match=r"of another size than annotated: 1 image \(id 11: '11.png' 40x30, annotated 41x30"
    ):
        prepare_data(data)
    assert len(CocoDataset(prepare_data(dataclasses.replace(data, drop_invalid=True)).root, "train")) == 2
