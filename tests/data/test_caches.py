"""What lies in the cache is used only as it was written: else it is named in a line, and made anew."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynrcnn_ray.config.sections import DataConfig, ShapesConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data import pack, sealed_folder
from dynrcnn_ray.data.annotations import DataError, cache_folder
from dynrcnn_ray.data.coco import CocoDataset
from dynrcnn_ray.data.prepare import fingerprint, prepare_data

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = DataConfig(shapes=ShapesConfig(train_images=3, val_images=2, image_size=32))
OTHER_USER = 12345


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dynrcnn_ray"


@pytest.fixture
def own(smoke: TrialConfig, tmp_path: Path) -> DataConfig:
    """A data set of which a run reads a converted copy."""
    root = shutil.copytree(smoke.data.root, tmp_path / "data", ignore=shutil.ignore_patterns("checksums.json"))
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        for record in content["annotations"]:
            record["category_id"] = str(record["category_id"])
        file.write_text(json.dumps(content))
    return DataConfig(root=str(root))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_boxes(file: Path) -> None:
    content = json.loads(file.read_text())
    for record in content["annotations"][:5]:
        record["bbox"][2] += 1
    file.write_text(json.dumps(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def is_made_anew(
    folder: Path, name: str, harm: Callable[[Path], None], use: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm a file of a folder, use it, and find what was there before."""
    before = contents(folder)
    harm(folder / name)
    capsys.readouterr()
    use()
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if str(folder) in line and line.endswith("; it is made anew")], lines
    assert contents(folder) == before
    use()
    assert "made anew" not in capsys.readouterr().err
    assert not [file for file in folder.parent.iterdir() if file.name.startswith(f".{folder.name}")]


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("annotations/instances_train.json", change_boxes),
        ("annotations/instances_val.json", Path.unlink),
        ("train/000001.jpg", flip_a_bit),
        ("val/000002.jpg", cut),
        ("train", shutil.rmtree),
        ("checksums.json", empty),
        ("checksums.json", Path.unlink),
    ],
)
def test_generated_images(name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare_data(SHAPES)
    is_made_anew(Path(prepared.root), name, harm, lambda: prepare_data(SHAPES), capsys)
    # A worker has the folder's name from another process.
    is_made_anew(Path(prepared.root), name, harm, lambda: prepare_data(SHAPES, expected=prepared.fingerprint), capsys)


def test_somebodys_copy_of_the_generated_images_is_theirs(tmp_path: Path) -> None:
    prepared = prepare_data(SHAPES)
    mine = Path(shutil.copytree(prepared.root, tmp_path / "mine"))
    copied = dataclasses.replace(SHAPES, root=str(mine))
    assert prepare_data(copied, expected=prepared.fingerprint).root == str(mine)
    flip_a_bit(mine / "train" / "000001.jpg")
    before = contents(mine)
    with pytest.raises(
        DataError, match=r"mine: is damaged: train/000001\.jpg does not match its checksum; copy it again"
    ):
        prepare_data(copied, expected=prepared.fingerprint)
    assert contents(mine) == before
    assert prepare_data(DataConfig(root=str(mine))).fingerprint != prepared.fingerprint


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("annotations/instances_train.json", change_boxes),
        ("annotations/instances_val.json", cut),
        ("annotations", shutil.rmtree),
        ("checksums.json", empty),
    ],
)
def test_a_converted_copy(
    own: DataConfig, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(prepare_data(own).root)
    assert copy != Path(own.root)
    is_made_anew(copy, name, harm, lambda: prepare_data(own), capsys)


def test_a_link_of_a_converted_copy_that_leads_elsewhere(own: DataConfig, tmp_path: Path) -> None:
    copy = Path(prepare_data(own).root)
    (copy / "train").unlink()
    (copy / "train").symlink_to(tmp_path)
    prepare_data(own)
    assert (copy / "train").resolve() == Path(own.root) / "train"


@pytest.mark.parametrize(
    ("name", "harm"), [("boxes.npy", flip_a_bit), ("boxes.npy", cut), ("lists.json", flip_a_bit), ("first.npy", empty)]
)
def test_a_pack(
    name: str,
    harm: Callable[[Path], None],
    smoke: TrialConfig,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pack, "_WORTH_IT", 0)
    CocoDataset(smoke.data.root, "train")
    (folder,) = (cache / "packs").glob("*-boxes-*[!k]")
    is_made_anew(folder, name, harm, lambda: CocoDataset(smoke.data.root, "train"), capsys)


@pytest.mark.parametrize("kind", ["image_hashes", "checked_images"])
def test_what_is_remembered(own: DataConfig, cache: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = fingerprint(own)
    for file in (cache / kind).iterdir():
        before = file.read_bytes()
        for harm in (flip_a_bit, empty):
            harm(file)
            capsys.readouterr()
            assert fingerprint(own) == first
            assert f"{file}: does not match its checksum; it is made anew\n" in capsys.readouterr().err
            assert file.read_bytes() == before


def test_a_large_folder_is_read_once_a_day_or_when_it_looks_different(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(prepare_data(SHAPES).root)
    read: list[Path] = []
    checksum = sealed_folder._checksum
    monkeypatch.setattr(sealed_folder, "_checksum", lambda path: read.append(path) or checksum(path))
    count = len(contents(folder)) - 1

    def files_read() -> int:
        read.clear()
        prepare_data(SHAPES)
        return len(read)

    assert [files_read(), files_read()] == [count, count]
    monkeypatch.setattr(sealed_folder, "_LARGE", 0)
    assert [files_read(), files_read()] == [count, 0]
    os.utime(folder / "train" / "000001.jpg", ns=(0, 0))
    assert [files_read(), files_read()] == [count, 0]
    now = sealed_folder.time.time()
    monkeypatch.setattr(sealed_folder.time, "time", lambda: now + sealed_folder._DAY)
    assert [files_read(), files_read()] == [count, 0]
    # The clock may have been wrong before.
    monkeypatch.setattr(sealed_folder.time, "time", lambda: now)
    assert files_read() == count
    monkeypatch.setattr(sealed_folder.platform, "node", lambda: "another machine")
    assert files_read() == count


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_what_another_user_has_prepared_in_a_shared_folder_is_not_trusted(
    cache: Path, own: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first, copy = prepare_data(SHAPES), prepare_data(own)
    cache.chmod(0o1777)
    for folder in (Path(first.root), Path(copy.root)):
        os.chown(folder, OTHER_USER, OTHER_USER)
    for file in (cache / "image_hashes").iterdir():
        os.chown(file, OTHER_USER, OTHER_USER)
    assert (prepare_data(SHAPES), prepare_data(own)) == (first, copy)
    err = capsys.readouterr().err
    for folder in (Path(first.root), Path(copy.root)):
        assert f"{folder}: belongs to another user of this machine; it is made anew\n" in err
        assert folder.stat().st_uid == 0
    assert all(file.stat().st_uid == 0 for file in (cache / "image_hashes").iterdir())


def test_a_full_home_is_reported_in_a_line(tmp_path: Path) -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900));"
        "from dynrcnn_ray.__main__ import run; import sys; sys.exit(run())"
    )
    command = [sys.executable, "-c", program, "check-data", "--scale", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith("; make room, check the permissions and the disk, or set XDG_CACHE_HOME to another folder")
    assert "cannot be read or written (" in line
    assert not list((tmp_path / "cache" / "dynrcnn_ray").iterdir())


def test_a_cache_that_cannot_be_read_just_now_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(prepare_data(SHAPES).root)
    before = contents(folder)

    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(sealed_folder, "_checksum", fail)
        with pytest.raises(DataError, match=r"cannot be read or written \(Input/output error\)"):
            prepare_data(SHAPES)
    assert contents(folder) == before
    assert cache_folder() in folder.parents


def test_a_copy_without_checksums_is_checked_like_any_data_set(tmp_path: Path) -> None:
    prepared = prepare_data(SHAPES)
    mine = Path(shutil.copytree(prepared.root, tmp_path / "mine", ignore=shutil.ignore_patterns("checksums.json")))
    copied = dataclasses.replace(SHAPES, root=str(mine))
    assert prepare_data(copied, expected=prepared.fingerprint).root == str(mine)
    (mine / "train" / "000001.jpg").unlink()
    with pytest.raises(
        DataError, match="the generated data set is damaged; move the folder away, then it is made again"
    ):
        prepare_data(copied, expected=prepared.fingerprint)
