"""The parts that the page consists of."""

import re
import shlex
from collections.abc import Callable
from typing import Any

import pandas as pd

from dynrcnn_ray.options.command import PROGRAM_NAME
from dynrcnn_ray.store.results_store import ResultStore

Section = dict[str, Any]
"""What a template shows: the arguments of `section`, `short_title`, and fields of the template's own."""
MakeSections = Callable[[ResultStore, pd.DataFrame], list[Section]]
"""Makes sections of a store and its trials (rows as in `schemas.TRIALS`); none where the store has nothing to show."""


def section(
    name: str,
    template: str,
    title: str,
    *,
    is_experiment: bool = False,
    package: str = "dynrcnn_ray.report.html",
    **shown: Any,
) -> Section:
    """One part of the page.

    Args:
        name: the target of links to it.
        template: a file of the package's folder `templates`. It may import the macros of this package's.
        title: its heading.
        is_experiment: whether it is an experiment's: it stands among the tables and figures.
        package: where its template lies.
        **shown: what the template shows.
    """
    given = {"name": name, "template": template, "title": title, "is_experiment": is_experiment, "package": package}
    return {**given, "short_title": short_title(name) if is_experiment else name.title(), **shown}


def command_for(store: ResultStore, *words: str) -> str:
    """A command of the program as it is typed for this store."""
    return shlex.join([PROGRAM_NAME, *words, "--storage", store.files.place])


def short_title(name: str) -> str:
    """The name of an experiment or figure for people: Table 3; a name that somebody chose stays as it is."""
    if name.startswith("trends_"):
        return f"{short_title(name.removeprefix('trends_'))}: trends"
    if numbered := re.fullmatch(r"(table|figure)(\d+)(_.*)?", name):
        kind, number, rest = numbered.groups(default="")
        return f"{kind.title()} {number}{rest.replace('_', ', ')}"
    if name == "sync":
        return "Sync"
    return re.sub(r"^train_(?=[0-9a-f]{12}$)", "Trial ", name)


def in_order(part: Section) -> tuple[int, str]:
    """Sorts tables first, then figures, then what else there is."""
    name = part["name"]
    kinds = ("table", "figure")
    return next((index for index, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name
