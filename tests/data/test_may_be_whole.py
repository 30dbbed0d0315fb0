"""What the system does not give may be whole: it is never left out, and nobody is told to replace it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrcnn_ray.config.sections import DataConfig, ShapesConfig
from dynrcnn_ray.data import sealed_folder
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.check_split import Demands, check_annotations
from dynrcnn_ray.data.check.images import check_images
from dynrcnn_ray.data.layout import canonical_files
from dynrcnn_ray.data.prepare import prepare_data
from tests.data.broken_sets import valid_content, write_valid

_GIVES_AN_IO_ERROR = "/proc/self/mem"
"""Linux answers EIO to whoever reads its first byte."""

pytestmark = pytest.mark.skipif(not Path(_GIVES_AN_IO_ERROR).exists(), reason="needs Linux")


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """A folder as another user sees it, whom it is closed to."""
    folder.chmod(0o700 if not os.geteuid() else 0)
    is_root = not os.geteuid()
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def spoil(image: Path) -> None:
    image.unlink()
    image.symlink_to(_GIVES_AN_IO_ERROR)


def test_an_image_that_cannot_be_read_just_now_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    spoil(next((tmp_path / "set" / "train").iterdir()))
    for drop_invalid in (False, True):
        with pytest.raises(DataError) as caught:
            prepare_data(DataConfig(root=str(tmp_path / "set"), drop_invalid=drop_invalid))
        assert "holds images not accessible: 1 image (" in str(caught.value)
        assert str(caught.value).endswith("(Input/output error)); check the permissions and the disk")


def test_a_generated_file_that_cannot_be_read_just_now_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = DataConfig(shapes=ShapesConfig(train_images=2, val_images=2, image_size=32))
    prepared = Path(prepare_data(data).root)
    read = sealed_folder._checksum
    for file in (next((prepared / "train").iterdir()), canonical_files(prepared, "train").annotations):

        def fails(path: Path, file: Path = file) -> str:
            return read(Path(_GIVES_AN_IO_ERROR) if path == file else path)

        monkeypatch.setattr(sealed_folder, "_checksum", fails)
        with pytest.raises(DataError, match="check the permissions and the disk") as caught:
            prepare_data(data)
        assert "damaged" not in str(caught.value)
        assert file.is_file()
    monkeypatch.setattr(sealed_folder, "_checksum", read)
    prepare_data(data)


def test_images_in_a_folder_that_is_closed_are_not_missing(tmp_path: Path):
    write_valid(tmp_path / "set")
    files = canonical_files(tmp_path / "set", "train")
    checked = check_annotations(files.annotations, valid_content(), Demands())
    assert not check_images(files.images, checked, cache=tmp_path).errors
    with without_rights(tmp_path):
        found = check_images(files.images, checked, cache=tmp_path / "another")
    (error,) = (fault for fault in found.errors if not fault.follows)
    assert str(error).endswith("cannot be read (Permission denied); check the permissions and the disk")
    assert not error.can_be_dropped
    assert "missing" not in str(error)
    assert "lacks" not in str(error)
