"""The text of a valid configuration, changed at random: refused by a ConfigError of one line, or valid."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError, from_yaml, to_yaml, validate

WHOLE = to_yaml(dataclasses.replace(base_config("coco"), seed=3))
TOKENS = [
    "null", "true", "~", ".nan", "-.inf", "1e999", "0x10", "0o17", "1_000", "12:30:45", "2001-12-14", "-1", "0", "''",
    "'x'", "[]", "{}", "[1, [2]]", "{a: {b: 1}}", "? x", "- 1", "&a 1", "*a", "<<: {seed: 1}", "%TAG",
    "!!python/name:os.system", "!!binary aGk=", "!!set {a}", "!!float x", "!!timestamp x",
    "!!int 0b", "# no", "---", "...", "\t", "|", ">",
    "\x00", "\ud800", "é", "9" * 5000, "[" * 2000, "=", "!!omap [a]", "!!pairs [1]", "? [1]\n: 2", "{? {}}", "{{}: 1}",
]  # fmt: skip


def mutate_text(draw: Callable[..., Any], text: str) -> str:
    kind = draw(st.sampled_from(["value", "value", "line", "swap", "delete", "insert", "cut", "indent", "key"]))
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    token = draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=6)))
    if kind == "value":
        lines[at] = f"{lines[at].partition(':')[0]}: {token}"
    elif kind == "key":
        lines[at] = f"{token}: {lines[at].partition(':')[2]}"
    elif kind == "line":
        lines.insert(at, token)
    elif kind == "swap":
        other = draw(st.integers(0, len(lines) - 1))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "delete":
        del lines[at]
    elif kind == "indent":
        lines[at] = " " * draw(st.integers(0, 5)) + lines[at].lstrip()
    else:
        place = draw(st.integers(0, len(text)))
        return text[:place] + token + text[place:] if kind == "insert" else text[:place]
    return "\n".join(lines)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_refused_in_a_line_or_valid(data: st.DataObject) -> None:
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 2))):
        text = mutate_text(data.draw, text)
    check(text)


def check(text: str) -> None:
    try:
        config = from_yaml(text)
    except ConfigError as error:
        refused = str(error)
        assert refused.strip()
        assert "\n" not in refused
        return
    assert validate(config) == config
    assert from_yaml(to_yaml(config)) == config
    assert Trial(config).trial_id


def test_the_parser_fails_in_a_line_too() -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        from_yaml("seed: !!timestamp x")
