import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from dynrcnn_ray.config.sections import DataConfig, ShapesConfig
from dynrcnn_ray.data import fingerprints
from dynrcnn_ray.data.coco import CocoDataset, DataError
from dynrcnn_ray.data.prepare import fingerprint, images_to_generate, prepare_data

SHAPES = DataConfig(shapes=ShapesConfig(train_images=3, val_images=2, image_size=32))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real(tmp_path: Path) -> DataConfig:
    generated = prepare_data(SHAPES)
    return DataConfig(root=shutil.copytree(generated.root, str(tmp_path / "real")))


def rewrite(data: DataConfig, split: str, **change: object) -> None:
    file = Path(data.root) / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_shapes_are_generated_in_the_cache_once(cache: Path) -> None:
    assert images_to_generate(SHAPES) == 5
    prepared = prepare_data(SHAPES)
    assert Path(prepared.root).parent == cache / "dynrcnn_ray"
    assert Path(prepared.root).name == prepared.fingerprint == fingerprint(SHAPES)
    assert len(CocoDataset(prepared.root, SHAPES.train_split)) == 3
    assert images_to_generate(SHAPES) == 0
    written = Path(prepared.root).stat().st_mtime_ns
    assert prepare_data(SHAPES) == prepared
    assert Path(prepared.root).stat().st_mtime_ns == written


def test_fingerprint_of_shapes_needs_no_generation(cache: Path) -> None:
    assert fingerprint(SHAPES).startswith("shapes-")
    assert not cache.exists()


def test_fingerprint_of_shapes_follows_recipe_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {fingerprint(SHAPES)}
    for field in dataclasses.fields(ShapesConfig):
        changed = dataclasses.replace(SHAPES.shapes, **{field.name: getattr(SHAPES.shapes, field.name) + 1})
        seen.add(fingerprint(dataclasses.replace(SHAPES, shapes=changed)))
    monkeypatch.setattr(fingerprints, "GENERATOR_VERSION", fingerprints.GENERATOR_VERSION + 1)
    seen.add(fingerprint(SHAPES))
    assert len(seen) == 6


def test_prepared_shapes_are_generated_again_where_they_are_missing() -> None:
    prepared = prepare_data(SHAPES)
    shutil.rmtree(prepared.root)
    assert images_to_generate(SHAPES) == 5
    assert prepare_data(SHAPES, expected=prepared.fingerprint) == prepared
    assert len(CocoDataset(prepared.root, "train")) == 3


def test_real_data_set(real: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(real.root).parent)
    prepared = prepare_data(dataclasses.replace(real, root="real"))
    assert prepared.root == real.root
    assert prepared.fingerprint == fingerprint(real)
    assert len(prepared.fingerprint) == 16
    assert prepare_data(real, expected=prepared.fingerprint) == prepared
    assert images_to_generate(real) == images_to_generate(dataclasses.replace(real, root="elsewhere")) == 0


def test_fingerprint_follows_the_content_of_both_splits(real: DataConfig) -> None:
    seen = {fingerprint(real)}
    for split in ("train", "val"):
        rewrite(real, split, info="changed")
        seen.add(fingerprint(real))
    swapped = dataclasses.replace(real, train_split=real.val_split, val_split=real.train_split)
    assert len(seen | {fingerprint(swapped)}) == 4


def test_content_other_than_the_fingerprint_says_is_refused(real: DataConfig) -> None:
    prepared = prepare_data(real)
    rewrite(real, "val", info="changed")
    with pytest.raises(DataError, match=f"but the trial began with {prepared.fingerprint}"):
        prepare_data(real, expected=prepared.fingerprint)


def test_missing_and_broken_annotations(real: DataConfig) -> None:
    with pytest.raises(
        DataError, match=r"instances_test.json: cannot be read .* no split .test., but .train., .val.: name one"
    ):
        prepare_data(dataclasses.replace(real, val_split="test"))
    with pytest.raises(DataError, match=r"instances_test.json: cannot be read"):
        prepare_data(dataclasses.replace(SHAPES, val_split="test"))
    (Path(real.root) / "annotations" / "instances_val.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"instances_val.json: not valid JSON"):
        prepare_data(real)


def test_categories_must_agree(real: DataConfig) -> None:
    rewrite(real, "val", categories=[{"id": 1, "name": "circle"}, {"id": 2, "name": "disc"}])
    with pytest.raises(DataError, match=r"category 2 is 'disc', but instances_train.json says 'square'"):
        prepare_data(real)
    rewrite(real, "val", categories=[{"id": 1, "name": "circle"}])
    with pytest.raises(DataError, match=r"category 2 is None, but instances_train.json says 'square'"):
        prepare_data(real)
