"""The site has the repository's own layout, so that one relative link serves GitHub, an editor and the site.

MkDocs takes the files of one folder. In their place `on_files` puts the Markdown files of the whole repository, and
what they link to: pictures as they are; a source, a notebook or a folder as a page that shows it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmarks", "cluster", "docs", "dynrcnn_ray", "experiments", "tests")
SOURCES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".toml": "toml", ".tex": "latex", ".txt": "", "": ""}
"""What a page shows in a block of code, by its name's end, in which language."""
PICTURES = (".png", ".jpg")
GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n"
FENCE = "~" * 12


class Shown(File):
    """A file or folder that is no Markdown, as a page."""

    def is_documentation_page(self) -> bool:
        return True


def markdown_files(root: Path = ROOT) -> list[Path]:
    """All of the repository, in order."""
    return sorted([*root.glob("*.md"), *(file for room in ROOMS for file in (root / room).rglob("*.md"))])


def tokens(text: str) -> Iterator[Token]:
    """What a Markdown text consists of, as GitHub reads it."""
    for token in GITHUB.parse(text):
        yield token
        yield from token.children or ()


def links(text: str) -> list[str]:
    """The links and pictures of a Markdown text that lead to the repository, as they are written."""
    written = (token.attrGet("href") or token.attrGet("src") for token in tokens(text))
    return [str(link) for link in written if link and not urlsplit(str(link)).scheme]


def target(page: Path, link: str) -> Path:
    """Where a relative link of a page leads; the page itself for an anchor alone."""
    path = unquote(urlsplit(link).path)
    return (page.parent / path).resolve() if path else page


def slug(title: str, separator: str = "-") -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", separator)


def anchors(text: str) -> set[str]:
    """What a link into a Markdown text can end with. A heading that comes again is told by a number."""
    found: dict[str, int] = {}
    parsed = GITHUB.parse(text)
    for opening, inline in zip(parsed, parsed[1:], strict=False):
        if opening.type == "heading_open":
            name = slug("".join(child.content for child in inline.children or ()))
            found[name] = found.get(name, 0) + 1
    return {f"{name}-{again}" if again else name for name, times in found.items() for again in range(times)}


def text_of(path: Path) -> str | None:
    """A page's Markdown; None for what is copied as it is."""
    title = f"{NOT_SEARCHED}# {path.relative_to(ROOT)}\n\n"
    if path.is_dir():
        shown = sorted(file.name for file in path.iterdir() if file.suffix in (".md", *SOURCES, *PICTURES))
        return title + "".join(
            f"- [{name}]({name})\n\n" + f"    ![{name}]({name})\n\n" * name.endswith(PICTURES)
            for name in (f"{path.name}/{name}" for name in shown)
        )
    if path.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]
        return "\n\n".join(_fenced(text, "python") if kind == "code" else text for kind, text in cells)
    if path.suffix in SOURCES:
        return title + _fenced(path.read_text(), SOURCES[path.suffix])
    return path.read_text() if path.suffix == ".md" else None


def _fenced(text: str, language: str) -> str:
    return f"{FENCE}{language}\n{text.rstrip()}\n{FENCE}"


def _file(path: Path, config: MkDocsConfig) -> File:
    uri = path.relative_to(ROOT).as_posix()
    # Pages of docs/ must be in the navigation; of the others, those that are worth it.
    in_docs = path.parent.is_relative_to(ROOT / "docs") and path.suffix in (".md", ".ipynb")
    inclusion = InclusionLevel.INCLUDED if in_docs else InclusionLevel.NOT_IN_NAV
    text = text_of(path)
    if text is None or path.suffix == ".md":
        return File.generated(config, uri, abs_src_path=str(path), inclusion=inclusion)
    page = Shown.generated(config, uri, content=text, inclusion=inclusion)
    page.dest_uri = f"{uri}.html"
    return page


def on_config(config: MkDocsConfig) -> None:
    """Give headings the anchors that they have on GitHub."""
    config.mdx_configs["toc"]["slugify"] = slug


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's files in the place of those of docs/. The theme's stay."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    waiting = [*markdown_files(), *(ROOT / "docs").glob("*.ipynb"), *(ROOT / "docs" / "theme").glob("*.[cj]s*")]
    while waiting:
        path = waiting.pop()
        if path.relative_to(ROOT).as_posix() in files.src_uris:
            continue
        files.append(_file(path, config))
        led_to = (target(path, link) for link in links(text_of(path) or ""))
        # MkDocs itself warns of what is not there.
        waiting += [file for file in led_to if file.exists() and file.is_relative_to(ROOT)]
    return files
