"""A loaded detector detects as the commands do, from a store's trial and from an exported file."""

import dataclasses
import doctest
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import save_image

import dynrcnn_ray as dr
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.data.shapes import CATEGORIES
from dynrcnn_ray.execution.trained_checkpoint import trained_checkpoint
from dynrcnn_ray.models import user_module
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.export.export import export_torchvision
from dynrcnn_ray.tools.predict.predictor import Predictor
from tests.prepared import prepared
from tests.tools.test_export import IDS, NAMES, PLAIN, detector, trial
from tests.trained_store import train_into


def picture() -> Tensor:
    return torch.randint(0, 256, (3, 96, 130), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)


def stored_picture(folder: Path, config: TrialConfig) -> Tensor:
    content = ResultStore.open(folder).images(prepared(config).inputs.data)["jpeg"].iloc[0]
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(2, 0, 1)


def assert_as_predicted(folder: Path, config: TrialConfig, checkpoint: Any = "last") -> None:
    """As the command `predict` detects."""
    store, of = ResultStore.open(folder), prepared(config)
    state, names = trained_checkpoint(store, of, checkpoint)
    predictor = Predictor(of, state, of.training_id, sorted(names), torch.device("cpu"))
    image = stored_picture(folder, config)
    expected = predictor(image.permute(1, 2, 0).numpy(), min_score=0.0)
    loaded = dr.load(folder, of.trial_id, checkpoint=checkpoint)
    found = loaded(image)
    assert len(expected.scores) or checkpoint == "best"
    np.testing.assert_array_equal(found["boxes"].numpy(), expected.boxes)
    np.testing.assert_array_equal(found["scores"].numpy(), expected.scores)
    assert found["names"] == [names[category] for category in expected.category_ids.tolist()]
    assert loaded.category_ids == tuple(sorted(names))


def test_a_trial_detects_as_predict_does(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    assert_as_predicted(folder, config)
    assert_as_predicted(folder, config, "best")
    loaded = dr.load(str(folder), prepared(config).trial_id)
    assert loaded.class_names == tuple(CATEGORIES.values())
    assert loaded.config.model == config.model
    assert not loaded.model.training


@pytest.mark.slow
def test_it_detects_by_the_trial_s_protocol(smoke: TrialConfig, tmp_path: Path):
    config = with_values(smoke, {"test.soft_nms": "linear", "test.multi_scale": True, "train.steps": 2})
    config = with_values(config, {"test.multi_scale_short_sides": [64, 96]})
    train_into(tmp_path, config)
    assert_as_predicted(tmp_path, config)


def test_a_file_a_tensor_and_one_of_floats_are_one_picture(trained: tuple[Path, TrialConfig], tmp_path: Path):
    folder, config = trained
    loaded, image = dr.load(folder, prepared(config).trial_id), stored_picture(folder, config)
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.save(tmp_path / "plain.png")
    # Turned, with an orientation that turns it back.
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    expected = loaded(image)
    for given in (image / 255, tmp_path / "plain.png", str(tmp_path / "turned.png")):
        found = loaded(given)
        assert found.keys() == expected.keys()
        assert torch.equal(found["boxes"], expected["boxes"])


def test_the_examples_of_the_docstrings_run(
    trained: tuple[Path, TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_store").symlink_to(trained[0])
    exported(tmp_path)
    save_image(picture() / 255, str(tmp_path / "photo.jpg"))
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(dr.load.__module__))
    assert found.attempted > 6
    assert not found.failed


def test_to_load_draws_nothing_and_sets_nothing(trained: tuple[Path, TrialConfig]):
    folder, config = trained
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    dr.load(folder, prepared(config).trial_id)
    assert torch.equal(torch.rand(1), before)


@pytest.mark.parametrize("kind", PLAIN)
def test_an_exported_file_detects_as_its_trial(kind: str, tmp_path: Path):
    config = trial(**PLAIN[kind])
    model = detector(config)
    private = dataclasses.replace(config, data=dataclasses.replace(config.data, root="/home/somebody/secret"))
    file = tmp_path / "mine.pth"
    export_torchvision(private, model.state_dict(), NAMES, IDS, file)
    loaded = dr.load(file)
    assert (loaded.class_names, loaded.category_ids) == (tuple(NAMES), tuple(IDS))
    found = loaded(picture())
    with torch.inference_mode():
        (expected,) = model([picture() / 255])
    assert len(found["boxes"])
    assert ("masks" in found) == (kind == "mask")
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert "secret" not in str(torch.load(file, weights_only=True)["config"]), "a file is given away"


def exported(folder: Path, **changes: Any) -> Path:
    """An exported file with some of its entries changed; None leaves one out."""
    file = folder / "mine.pth"
    config = trial(**PLAIN["faster"])
    export_torchvision(config, detector(config).state_dict(), NAMES, IDS, file)
    content = torch.load(file, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, file)
    return file


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": None}, "does not say how its detector is built; give a file that"),
        ({"config": "model: {name: yolo}"}, "model.name"),
        ({"class_names": ["cat"]}, "must be as many names"),
    ],
)
def test_a_file_that_is_another_s_is_refused(changes: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(ValueError, match=told) as caught:
        dr.load(exported(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_told(trained: tuple[Path, TrialConfig], tmp_path: Path):
    folder, config = trained
    (tmp_path / "text.pth").write_text("no weights")
    for arguments, told in (
        ((tmp_path / "none.pth",), "is no file"),
        ((tmp_path / "text.pth",), "no file of weights"),
        ((folder,), "is a folder; name one of its trials"),
        ((folder, "abc"), "holds no trial 'abc'"),
        ((tmp_path / "none", "abc"), "is not there"),
    ):
        with pytest.raises(ValueError, match=told):
            dr.load(*arguments)
    with pytest.raises(ValueError, match=r"source: 's3://bucket/store' is a store; name one of its trials too"):
        dr.load("s3://bucket/store")
    for wrong in ("first", "1", 0, 1.5, True):
        with pytest.raises(ValueError, match=rf"checkpoint: {wrong!r} must be 'last', 'best', or a step, from 1"):
            dr.load(folder, prepared(config).trial_id, checkpoint=wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="there are those of steps"):
        dr.load(folder, prepared(config).trial_id, checkpoint=1)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (torch.zeros(96, 96, 3), "must be RGB"),
        (torch.full((3, 8, 8), 200.0), "values of 0 to 1"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "must be uint8"),
        (torch.zeros(3, 0, 8), "has no pixels"),
        (torch.zeros(3, 8, 0, dtype=torch.uint8), "has no pixels"),
        ("none.jpg", "'none.jpg' cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, told: str, trained: tuple[Path, TrialConfig]):
    folder, config = trained
    with pytest.raises(ValueError, match=told):
        dr.load(folder, prepared(config).trial_id)(image)


def test_a_picture_of_more_than_eight_bits_is_refused(trained: tuple[Path, TrialConfig], tmp_path: Path):
    """Pillow cuts its values off at 255: nearly all of it would be white."""
    Image.fromarray(np.full((40, 60), 30_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    folder, config = trained
    with pytest.raises(ValueError, match=r"deep\.png' is not of 8 bits a channel \(mode I;16\)"):
        dr.load(folder, prepared(config).trial_id)(tmp_path / "deep.png")


def test_a_process_that_has_run_somebody_s_module_loads_no_other_detector(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The module may have changed what the file's detector is built of."""
    file = exported(tmp_path)
    monkeypatch.setattr(user_module, "_has_run", {"0123456789abcdef": Path("/home/me/mine.py")})
    with pytest.raises(ValueError, match=r"in a process that has run /home/me/mine\.py"):
        dr.load(file)
