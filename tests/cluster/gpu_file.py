"""`cluster/gpu.yaml` with its placeholders filled, as the README's envsubst line does it."""

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "cluster" / "gpu.yaml"


def filled(**values: str) -> dict[str, Any]:
    """The file's content; every placeholder must be named and no other."""
    text = FILE.read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == values.keys()
    return yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text))
