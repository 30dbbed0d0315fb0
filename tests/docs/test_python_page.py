"""The examples of docs/python.md run, from the first to the last, and print what the page says."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.utils import save_image

import dynrcnn_ray as dr
from dynrcnn_ray.config.trial_config import TrialConfig
from tests.api.test_load import exported, picture

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", PAGE, re.DOTALL)
OF_OTHERS = {"MMDetection": "mmdet", "Detectron2": "detectron2"}
OWN_BLOCKS = [block for block in BLOCKS if block[0].splitlines()[0].removeprefix("# ") not in OF_OTHERS]


def in_words(text: str) -> str:
    return re.sub(r"\d+(\.\d*)?", "#", text)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


@pytest.mark.slow
def test_the_page_prints_what_it_says(
    trained: tuple[Path, TrialConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "my_store").symlink_to(trained[0])
    exported(tmp_path)
    save_image(picture() / 255, str(tmp_path / "photo.jpg"))
    monkeypatch.chdir(tmp_path)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2)
    names: dict[str, Any] = {"model": model}
    for code, expected in OWN_BLOCKS:
        exec(code, names)
        printed = capsys.readouterr().out
        if expected:
            assert in_words(printed) == in_words(expected)
            # Another CPU rounds otherwise.
            assert numbers(printed) == pytest.approx(numbers(expected), abs=0.05)
    assert list(names["trials"]["status"]) == ["finished"]
    assert torch.is_tensor(names["found"]["boxes"])
    assert names["detector"].class_names == ("cat", "dog")


def test_the_page_opens_with_three_lines_and_what_they_print():
    code, expected = BLOCKS[0]
    assert len([line for line in code.splitlines() if line.strip()]) == 3
    assert expected


def test_the_training_loop_has_less_than_25_lines():
    (loop,) = [code for code, _ in BLOCKS if "def batch" in code]
    assert len([line for line in loop.splitlines() if line.strip()]) < 25


def test_the_page_names_every_public_name():
    assert not [name for name in dr.__all__ if f"`{name}" not in PAGE]
    assert not [name for name in vars(dr.Store) if not name.startswith("_") and f"`{name}(" not in PAGE]


@pytest.mark.parametrize("library", OF_OTHERS)
def test_a_hook_is_python_and_is_taken_by_its_library_where_that_is_installed(library: str):
    (code,) = [code for code, _ in BLOCKS if code.startswith(f"# {library}\n")]
    compile(code, library, "exec")
    if importlib.util.find_spec(OF_OTHERS[library]) is None:
        pytest.skip(f"{library} is not installed")
    exec(code, {"__name__": "hook"})
