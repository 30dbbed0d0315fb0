"""The parts that the page consists of."""

import re
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


_OWN_SECTIONS = ("detections", "findings", "inspections", "sync", "trials")
"""Names of sections that nobody chose."""


def short_title(name: str) -> str:
    """The name of an experiment or figure for people: Table 3; a name that somebody chose stays as it is."""
    if name.startswith("trends_"):
        return f"{short_title(name.removeprefix('trends_'))}: trends"
    if numbered := re.fullmatch(r"(table|figure)(\d+)(_.*)?", name):
        kind, number, rest = numbered.groups(default="")
        return f"{kind.title()} {number}{rest.replace('_', ', ')}"
    if name in _OWN_SECTIONS:
        return name.title()
    return re.sub(r"^train_(?=[0-9a-f]{12}$)", "Trial ", name)


def in_order(part: Section) -> tuple[int, str]:
    """Sorts tables first, then figures, then what else there is."""
    name = part["name"]
    kinds = ("table", "figure")
    return next((index for index, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name
