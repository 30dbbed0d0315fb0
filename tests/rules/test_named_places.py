"""A module or file of the project that a text names is there: nothing else reads a shell line, a comment or a page."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("dynrcnn_ray", "experiments", "benchmarks", "tests", "docs", "cluster")
KINDS = (".py", ".md", ".yaml", ".sh", ".ipynb", ".toml")
OF_AN_EARLIER_TIME = ROOT / "experiments" / "reference_"
"""What was run there, with the code of its time."""
NOT_PYTHON = {f"dynrcnn_ray.{key}" for key in ("schema_version", "crc32", "file", "folded")}
"""Keys in the metadata of Parquet files."""
FILE = re.compile(r"(?<![\w.{}*/-])(?:[\w-]+/)+\w+\.py\b")
# Wherever a checkout lies, as in "{home}/dynrcnn_ray/dynrcnn_ray/store/__init__.py".
OF_THE_PACKAGE = re.compile(r"\bdynrcnn_ray/(?!dynrcnn_ray/)(?:\w+/)*\w+\.py\b")
NAME = re.compile(r"(?<![\w/.])dynrcnn_ray(?:\.[A-Za-z_]\w*)++(?![{(*<\w/-])")
IMPORT = re.compile(r"\bfrom (dynrcnn_ray[\w.]*) import (\w+)")


def texts() -> Iterator[tuple[str, str]]:
    """Each file's path from the root, and what it says."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*") if file.suffix in KINDS]
    for file in sorted([*files, *ROOT.glob("*.toml"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]):
        if not str(file).startswith(str(OF_AN_EARLIER_TIME)):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


@functools.cache
def is_there(name: str, root: Path = ROOT) -> bool:
    """Whether a dotted name leads to a room or a module, or to a word of a module's text. Nothing is imported."""
    first, *others = name.split(".")
    at = root / first
    for part in others:
        module = at / f"{part}.py"
        if not (at / part).is_dir() and not module.is_file():
            text = at.with_suffix(".py") if at.with_suffix(".py").is_file() else at / "__init__.py"
            return part.startswith("__") or (text.is_file() and bool(re.search(rf"\b{part}\b", text.read_text())))
        at /= part
    return True


def test_every_name_of_the_package_in_a_text_is_there():
    named = {
        (where, name)
        for where, text in texts()
        for name in (*NAME.findall(text), *(f"{module}.{name}" for module, name in IMPORT.findall(text)))
    }
    assert len(named) > 500
    assert not sorted((where, name) for where, name in named if name not in NOT_PYTHON and not is_there(name))


def test_every_file_of_python_in_a_text_is_there():
    """From the root, from the package as in `docs/code_tour.md`, or from the text's own folder."""
    named = {(where, file) for where, text in texts() for file in (*FILE.findall(text), *OF_THE_PACKAGE.findall(text))}
    assert len(named) > 50
    assert not sorted(
        (where, file)
        for where, file in named
        if not any((start / file).is_file() for start in (ROOT, ROOT / "dynrcnn_ray", (ROOT / where).parent))
    )
