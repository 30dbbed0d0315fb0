"""The public names: which there are, that they wait to be imported, and that their examples say what comes out."""

import doctest
import importlib
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import dynrcnn_ray as dr
from dynrcnn_ray import load

ROOT = Path(__file__).resolve().parents[2]
SIGNATURES = {
    "DynamicTraining": "iou_top_k, beta_top_k, update_interval, initial_iou, initial_beta, rois_per_image",
    "LoadedDetector": "model, class_names, category_ids, config, device",
    "Store": "location",
    "load": "source, trial, checkpoint, device",
    "make_dynamic": "model, iou_top_k, beta_top_k, update_interval, initial_iou, initial_beta",
}
"""A name or an argument that goes away breaks somebody's program; a new one is added here too."""
METHODS = {
    "DynamicTraining": (
        "beta iou_threshold load_state_dict measure record state_dict step steps",
        "",
    ),
    "LoadedDetector": ("", "model class_names category_ids config"),
    "Store": (
        "detections dynamics evaluations experiments plan proposals statistics table tables trials",
        "",
    ),
}
"""Of each class: its public methods and properties, and the attributes that its docstring states."""


def test_these_are_the_public_names():
    assert dr.__all__ == sorted(SIGNATURES)
    assert set(dr.__all__) <= set(dir(dr))
    for name in dr.__all__:
        assert getattr(dr, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'make_static'"):
        _ = dr.make_static  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_name_takes_these_arguments(name: str):
    assert ", ".join(inspect.signature(getattr(dr, name)).parameters) == SIGNATURES[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_class_has_these_methods(name: str):
    public = getattr(dr, name)
    methods, attributes = METHODS[name]
    assert sorted(each for each in vars(public) if not each.startswith("_")) == methods.split()
    assert all(f"        {attribute}: " in f"    {public.__doc__}" for attribute in attributes.split())


def test_a_type_checker_sees_what_is_imported():
    """The imports that it reads stand beside those that happen."""
    text = (ROOT / "dynrcnn_ray" / "__init__.py").read_text()
    for name in dr.__all__:
        module = inspect.getmodule(getattr(dr, name))
        assert module is not None
        lines = [line for line in text.splitlines() if line.strip().startswith(f"from {module.__name__} import ")]
        assert any(name in line.partition("import")[2].replace(",", " ").split() for line in lines), name
    assert typing.TYPE_CHECKING is False


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing():
    assert not modules_after("import dynrcnn_ray as dr; dir(dr)") & {"torch", "numpy", "pandas", "ray", "pyarrow"}


def test_dynamic_training_loads_neither_ray_nor_pandas():
    loaded = modules_after("from dynrcnn_ray import DynamicTraining, make_dynamic")
    assert "torch" in loaded
    assert not loaded & {"ray", "pandas", "pyarrow"}


def test_a_store_and_a_detector_load_no_ray():
    loaded = modules_after("from dynrcnn_ray import Store, load")
    assert "pandas" in loaded
    assert "ray" not in loaded


@pytest.mark.parametrize("name", sorted({getattr(dr, name).__module__ for name in dr.__all__} - {load.__module__}))
def test_the_examples_of_docstrings_say_what_comes_out(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
