"""One thing stands in one place."""

import ast
from collections import defaultdict
from pathlib import Path

from tests.sources import parsed

ROOT = Path(__file__).parents[2]
FILES = [file for room in ("dynrcnn_ray", "experiments", "benchmarks") for file in sorted((ROOT / room).rglob("*.py"))]
MANY = 5
RENAMES = {
    "dynrcnn_ray/options/output.py": "a file",
    "dynrcnn_ray/store/files.py": "a file of a store, whose readers list its folder: it is written elsewhere",
    "dynrcnn_ray/data/whole_folder.py": "a folder of the cache, of which two processes make the same",
    "dynrcnn_ray/data/sealed_folder.py": "the same, where one that is there and whole stays",
    "dynrcnn_ray/tools/convert/convert.py": "a folder that is new, and refused where it is not",
    "dynrcnn_ray/tools/predict/output_folder.py": "a folder of results: the earlier ones are put back if it fails",
}
"""Who writes aside and renames into place, and what."""


def test_no_constant_of_many_values_is_written_twice():
    places = defaultdict(list)
    for file in FILES:
        for line in parsed(file).body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
                value = line.value
                size = len(value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", []))
                if size >= MANY:
                    places[ast.dump(value)].append(f"{file.relative_to(ROOT)}:{line.lineno}")
    assert len(places) > 5
    assert not [where for where in places.values() if len(where) > 1]


def renames(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in ("rename", "move")
            # Of a path: a string's takes two, and a date's takes names.
            or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)
            or ast.unparse(node.func) == "os.replace"
        )
        for node in ast.walk(tree)
    )


def test_what_must_be_whole_is_renamed_into_place_by_these_files_alone():
    """`write_whole` is for a file, `built_beside` and `put_in_place` for a folder."""
    found = {str(file.relative_to(ROOT)) for file in FILES if renames(parsed(file))}
    assert found == set(RENAMES)
