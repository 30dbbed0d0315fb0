"""Pictures are read before their turn, but few of them, and of few bytes."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrcnn_ray.tools.predict import reading_ahead
from dynrcnn_ray.tools.predict.reading_ahead import read_ahead


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the pictures that are unpacked so far."""
    shapes: list[tuple[int, ...]] = []
    decode = reading_ahead.decode_picture

    def noting(content: bytes, **options: object) -> np.ndarray:
        pixels = decode(content, **options)  # pyright: ignore[reportArgumentType]
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(reading_ahead, "decode_picture", noting)
    return shapes


def write(folder: Path, sizes: list[tuple[int, int]]) -> list[str]:
    paths = []
    for number, size in enumerate(sizes):
        paths.append(str(folder / f"{number:02d}.png"))
        Image.new("RGB", size, (number, 0, 0)).save(paths[-1])
    return paths


def wait_for_readers(decoded: list[tuple[int, ...]], count: int) -> None:
    """Until so many are unpacked: that they come is certain, when is not."""
    ready = threading.Event()
    while len(decoded) < count:
        ready.wait(0.001)


def test_few_pictures_are_read_before_their_turn(tmp_path: Path, decoded: list[tuple[int, ...]]):
    paths = write(tmp_path, [(8, 8)] * 20)
    for at, (pixels, error) in enumerate(read_ahead(paths, None)):
        assert (error, pixels is not None and pixels[0, 0, 0]) == ("", at)
        wait_for_readers(decoded, min(20, at + 4))
        assert len(decoded) <= at + 4


def test_pictures_in_flight_are_few_bytes(tmp_path: Path, decoded: list[tuple[int, ...]]):
    """There is room for two of the small ones; the large one, with more than there is room for, is alone."""
    small, large = (10, 10), (40, 40)
    paths = write(tmp_path, [small, small, small, large, small, small, small])
    in_flight_at_most = [2, 2, 1, 1, 2, 2, 1]
    for at, (pixels, _) in enumerate(read_ahead(paths, None, most_bytes=2 * 3 * 10 * 10)):
        assert pixels is not None
        wait_for_readers(decoded, at + in_flight_at_most[at])
        assert len(decoded) == at + in_flight_at_most[at]


def test_bad_pictures_have_their_turns(tmp_path: Path):
    paths = write(tmp_path, [(10, 10)] * 12)
    for bad in (0, 3, 4, 5, 11):
        Path(paths[bad]).write_bytes(b"no picture")
    reads = list(read_ahead(paths, None, most_bytes=1))
    assert [at for at, read in enumerate(reads) if read.pixels is None] == [0, 3, 4, 5, 11]


def test_whoever_stops_reading_waits_for_nobody(tmp_path: Path):
    reads = read_ahead(write(tmp_path, [(10, 10)] * 12), None, most_bytes=1)
    next(reads)
    reads.close()


def test_a_picture_is_unpacked_after_it_was_let_in(tmp_path: Path):
    from dynrcnn_ray.tools.predict.pictures import decode_picture

    stream = io.BytesIO()
    Image.new("L", (30, 20)).save(stream, "PNG")
    told: list[int] = []
    assert decode_picture(stream.getvalue(), before_unpacking=told.append).shape == (20, 30, 3)
    assert told == [3 * 30 * 20]
