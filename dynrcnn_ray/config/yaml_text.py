"""YAML as text: read by the core schema of YAML 1.2, written so that readers of YAML 1.1 find the same values.

PyYAML alone reads YAML 1.1, where 064 is 52, 1:30 is 90, `no` is false and 1e-3 is a text.
"""

import re
from collections import Counter
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from yaml.resolver import Resolver

_TEXT, _INT, _FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float"))
_CORE_SCHEMA = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", [*"~nN", ""]),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    _INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    # Not of YAML 1.2, but what everybody merges mappings by.
    "tag:yaml.org,2002:merge": (r"<<", ["<"]),
}
"""What a plain scalar may be, and the characters that it may begin with; the first that fits counts."""
_BASES = {"0o": 8, "0x": 16}


def load(text: str) -> Any:
    """A document by YAML 1.2.

    Raises:
        ValueError: a name stands twice in a mapping, or is one only with quotes.
        Exception: it is no YAML; PyYAML's parser raises nearly anything, an AttributeError for `!!timestamp x`.
    """
    return yaml.load(text, Loader=_Loader)


def load_stored(text: str) -> Any:
    """A document that `dump` wrote, of this release or of one that knew YAML 1.1 alone; raises as `load`."""
    return yaml.load(text, Loader=_StoredLoader)


def dump(tree: Any) -> str:
    """A tree as YAML, in the order of its fields; what either version could take for no text is quoted."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


class _StoredLoader(yaml.SafeLoader):
    """PyYAML's takes the last of two equal names without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{twice[0]!r} stands twice in one mapping; keep one of the two")
        return super().construct_mapping(node, deep)


class _Loader(_StoredLoader):
    """By YAML 1.2."""

    # PyYAML keeps the rules of a class in it, and types them as an instance's.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.style is None and not _is_name(key.value):
                raise ValueError(f"the name {key.value or 'null'} may be read as a number or a truth value; quote it")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Knows by both versions' rules what has to be quoted."""


for _tag, (_pattern, _first) in _CORE_SCHEMA.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def _is_name(plain: str) -> bool:
    """Whether a scalar without quotes is text, or the sign of a merge, to every reader of YAML."""
    tags = {resolver.resolve(yaml.ScalarNode, plain, (True, False)) for resolver in (_ELEVEN, _TWELVE)}
    return tags == {_TEXT} or plain == "<<"


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, _BASES.get(text[:2], 10))


_ELEVEN, _TWELVE = Resolver(), _Loader("")
_Loader.add_constructor(_INT, _whole_number)
