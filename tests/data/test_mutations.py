"""A valid data set, mutated at random: refused in lines that name the file, or loaded and measured in full."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from tests.data.broken_sets import annotation_file, load_and_measure, write_valid

JUNK = [None, True, "", "x", -1, 0, 1, 3, 11, 2.5, 1e9, -1e300, 10**30, float("nan"), float("inf"), [], {}, [[]], [1]]
TREE = ("set", "delete", "duplicate", "swap")
FILES = ("cut text", "cut image", "delete image", "other size", "overwrite image")


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON tree: its container and its key or index."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    below = [(tree, key) for key in keys]
    return below + [place for key in keys for place in places(tree[key])]


def mutate_tree(draw: Callable[..., Any], kind: str, file: Path) -> None:
    try:
        tree = json.loads(file.read_text())
    except ValueError:
        return
    found = places(tree)
    container, key = found[draw(st.integers(0, len(found) - 1))]
    if kind == "set":
        container[key] = draw(st.sampled_from(JUNK))
    elif kind == "delete":
        del container[key]
    elif kind == "duplicate" and isinstance(container, list):
        container.insert(key, container[key])
    elif kind == "swap":
        other, other_key = found[draw(st.integers(0, len(found) - 1))]
        # Copies: a tree must not come to hold itself.
        one, two = json.dumps(container[key]), json.dumps(other[other_key])
        container[key], other[other_key] = json.loads(two), json.loads(one)
    file.write_text(json.dumps(tree))


def mutate_file(draw: Callable[..., Any], kind: str, root: Path, split: str) -> None:
    file = annotation_file(root, split)
    image = root / split / draw(st.sampled_from(["11.png", "12.png", "15.png"]))
    if kind == "cut text":
        text = file.read_text()
        file.write_text(text[: draw(st.integers(0, len(text)))])
    elif kind == "delete image":
        image.unlink(missing_ok=True)
    elif kind == "other size":
        Image.new("RGB", (30, 40)).save(image)
    elif image.exists():
        content = image.read_bytes()
        at = draw(st.integers(0, max(0, len(content) - 1)))
        image.write_bytes(content[:at] if kind == "cut image" else content[:at] + b"\x00junk" + content[at + 5 :])


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.booleans())
def test_never_a_traceback_never_a_silent_wrong_number(data: st.DataObject, drop_invalid: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"XDG_CACHE_HOME": f"{folder}/cache"}):
        root = Path(folder) / "set"
        write_valid(root)
        for _ in range(data.draw(st.integers(1, 3))):
            kind = data.draw(st.sampled_from(TREE * 2 + FILES))
            split = data.draw(st.sampled_from(["train", "val"]))
            if kind in FILES:
                mutate_file(data.draw, kind, root, split)
            else:
                mutate_tree(data.draw, kind, annotation_file(root, split))
        try:
            load_and_measure(DataConfig(root=str(root), drop_invalid=drop_invalid))
        except DataError as error:
            for line in str(error).split("\n"):
                assert line.startswith(str(root)) or line.startswith(f"{folder}/cache"), line
                assert ": " in line
                assert "; " in line, line
