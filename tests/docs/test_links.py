"""Every link of a page leads somewhere, on GitHub and on the site; every page of docs/ is in the site's navigation."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from docs.theme import hooks

ROOT = hooks.ROOT
FOREIGN = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^"']*""")


def of_the_repository() -> set[Path]:
    """The files of the repository and their folders, new ones too. Where there is no git: the files that are there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name]
    files = [ROOT / name for name in names] if names else [file for file in ROOT.rglob("*") if file.is_file()]
    return {place for file in files for place in (file, *file.parents)}


def broken(page: Path, text: str, there: set[Path]) -> Iterator[str]:
    """The links of a page that lead nowhere, as they are written."""
    for link in hooks.links(text):
        place, anchor = hooks.target(page, link), urlsplit(link).fragment
        if place != page and place not in there:
            yield link
            continue
        known = hooks.anchors(text if place == page else hooks.text_of(place) or "") if anchor else {""}
        if anchor not in known:
            yield link


def in_navigation(entries: list) -> Iterator[str]:
    for entry in entries:
        for part in entry.values():
            yield from [part] if isinstance(part, str) else in_navigation(part)


def test_every_link_of_every_page_leads_somewhere():
    there = of_the_repository()
    pages = {page: page.read_text() for page in hooks.markdown_files() if page in there}
    assert sum(len(hooks.links(text)) for text in pages.values()) > 100
    assert not [
        (str(page.relative_to(ROOT)), link) for page, text in pages.items() for link in broken(page, text, there)
    ]


def test_a_link_that_leads_nowhere_is_found():
    text = """# A page

    [code](no_link.md)

[page](data.md) [anchor](data.md#coco) [own](#a-page) [folder](examples) [code](../dynrcnn_ray/dynamic/state.py) <https://x.y>
[no page](dota.md) [no anchor](data.md#kokko) [none here](#b-page) ![no picture](x.png) [no folder](exempli)

| [in a table](no_cell.md) |
| :-- |
| [defined below][1] |

[1]: nothing.md
"""
    there = {*of_the_repository(), ROOT / "docs" / "page.md"}
    wrong = ["dota.md", "data.md#kokko", "#b-page", "x.png", "exempli", "no_cell.md", "nothing.md"]
    assert list(broken(ROOT / "docs" / "page.md", text, there)) == wrong


def test_the_anchors_are_those_of_github():
    text = "# What `T_now` is, in a word\n\n## Twice\n\n## Twice\n\n### A [link](x.md) - and more\n"
    assert hooks.anchors(text) == {"what-t_now-is-in-a-word", "twice", "twice-1", "a-link---and-more"}


def test_every_page_of_docs_is_in_the_navigation_once():
    listed = list(in_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) == len(set(listed))
    assert not [page for page in listed if not (ROOT / page).is_file()]
    there = of_the_repository()
    pages = [page for page in (ROOT / "docs").rglob("*") if page.suffix in (".md", ".ipynb") and page in there]
    assert not {page.relative_to(ROOT).as_posix() for page in pages} - set(listed)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {page: page.read_text() for page in tmp_path.rglob("*.html")}
    assert "DynamicTrainingState" in pages[tmp_path / "docs" / "api" / "dynamic.html"]
    assert (tmp_path / "experiments" / "reference_mini" / "figures" / "findings.png").is_file()
    assert "next_iou" in (tmp_path / "search" / "search_index.js").read_text()
    assert not [found for text in pages.values() for found in FOREIGN.findall(text)]
    assert not [style for style in tmp_path.rglob("*.css") if re.search(r"url\(.?https?:|@import", style.read_text())]
