"""The parts that the page consists of."""

from typing import Any

Section = dict[str, Any]
"""What a template shows: `name`, `short_title`, `template`, `title`, and fields of the template's own."""


def section(name: str, template: str, title: str, **shown: Any) -> Section:
    """One part of the page.

    Args:
        name: its anchor.
        template: a file of `templates/`.
        title: its heading.
        **shown: what the template shows.
    """
    return {"name": name, "short_title": short_title(name), "template": template, "title": title, **shown}


def short_title(name: str) -> str:
    """The name of an experiment or figure for people: Table 3; Trial 0c6b."""
    for kind in ("table", "figure"):
        if name.startswith(kind):
            return f"{kind.title()} {name.removeprefix(kind).replace('_', ', ')}"
    return name.replace("train_", "Trial ") if name.startswith("train_") else name.title()


def in_order(part: Section) -> tuple[int, str]:
    """Sorts tables first, then figures, then what else there is."""
    name = part["name"]
    kinds = ("table", "figure")
    return next((index for index, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name
