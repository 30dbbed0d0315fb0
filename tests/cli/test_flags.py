"""A flag has a test that names it."""

import re
from pathlib import Path

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.options.parsing import flags

TESTS = Path(__file__).parents[1]


def is_named(flag: str, text: str) -> bool:
    """Whether a text has a flag as it is typed, or its field's name as a configuration or a file has it."""
    section, _, name = flag.removeprefix("--").rpartition(".")
    section = section and f"{section}."
    typed = rf"(?<![\w-])--{re.escape(section)}(?:no-)?{re.escape(name)}(?![\w.-])"
    if not section:
        return re.search(typed, text) is not None
    field = name.replace("-", "_")
    path = rf"(?<![\w.-]){re.escape(section)}(?:{re.escape(name)}|{field})(?![\w-])"
    given = rf"\b{field}=(?!=)|\b{field}: |\"{field}\""
    return re.search(f"{typed}|{path}|{given}", text) is not None


def test_every_flag_is_named_by_a_test():
    """A flag that no test names may stop doing anything, and nobody sees it."""
    text = "\n".join(file.read_text() for file in sorted(TESTS.rglob("*.py")) if file != Path(__file__))
    every = {flag for command in program().commands for flag in flags(command.options)}
    assert not {flag for flag in every if not is_named(flag, text)}


def test_what_names_a_flag():
    assert is_named("--axis", 'main(["grid", "--axis", "x"])')
    assert not is_named("--axis", "axis=3 --axis-x")
    assert is_named("--data.drop-invalid", "--data.no-drop-invalid")
    assert is_named("--test.soft-nms-iou", "TestConfig(soft_nms_iou=0.3)")
    assert is_named("--test.soft-nms-iou", "test.soft_nms_iou")
    assert not is_named("--test.soft-nms-iou", "--test.soft-nms soft_nms_iou")
