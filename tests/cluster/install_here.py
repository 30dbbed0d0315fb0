"""Install a project or a package into a virtual environment from what this machine has installed, without a network.

`python install_here.py ENVIRONMENT WANTED` links what `pip install WANTED` would bring: the package or, for `.`, the
project of the working folder, and what they need; nothing else that is installed here. The project's code is read from
the working folder, its version from its installation here.
"""

import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

_SCRIPT = "#!{python}\nimport sys\nfrom {module} import {attribute}\nsys.exit({attribute}())\n"


def install(environment: Path, wanted: str) -> None:
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    requirements = [wanted]
    if wanted == ".":
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        requirements = project["dependencies"]
        (site / "project.pth").write_text(f"{Path.cwd()}\n")
        _link(metadata.distribution(project["name"]), site, only=".dist-info")
    for name in _needed(requirements):
        found = metadata.distribution(name)
        _link(found, site)
        for script in found.entry_points.select(group="console_scripts"):
            file = environment / "bin" / script.name
            python = environment / "bin" / "python"
            file.write_text(_SCRIPT.format(python=python, module=script.module, attribute=script.attr))
            file.chmod(0o755)


def _link(found: metadata.Distribution, site: Path, only: str = "") -> None:
    # Not `found.files`, which takes seconds over so many.
    record = (found.read_text("RECORD") or "").splitlines()
    for top in {line.split(",")[0].split("/")[0] for line in record} - {"..", "__pycache__"}:
        if top.endswith(only) and not (site / top).exists():
            (site / top).symlink_to(Path(str(found.locate_file(top))))


def _needed(requirements: list[str]) -> set[str]:
    """The names of these distributions and, in turn, of all that they require."""
    needed, left = set(), [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        for extra in ("", *requirement.extras):
            if (key := (requirement.name.lower(), extra)) in needed:
                continue
            needed.add(key)
            for text in metadata.requires(requirement.name) or ():
                inner = Requirement(text)
                if not inner.marker or inner.marker.evaluate({"extra": extra}):
                    left.append(inner)
    return {name for name, _ in needed}


if __name__ == "__main__":
    install(Path(sys.argv[1]), sys.argv[2])
