"""The rows of a folder's files: checked one by one, or from the folder's fold where that holds the same."""

from collections.abc import Mapping

import pyarrow as pa

from dynrcnn_ray.store.files import FileStamp, StoreFiles, UnusableFileError
from dynrcnn_ray.store.folds import FEW, FOLDED, read_fold
from dynrcnn_ray.store.parquet import DamagedFileError, ForeignFileError, from_parquet_bytes, stated_name
from dynrcnn_ray.store.remedies import FOREIGN_REMEDY, folder_and_name, remedy_of

SUFFIX = ".parquet"
"""What the name of a file of the store ends with."""
KEYS = {"plans": "experiment"} | dict.fromkeys(
    ("trials", "running", "dynamics", "proposals", "statistics", "detections", "classes", "errors"), "trial_id"
)
"""The field that a file is named after, by its folder."""
_TABLES_AT_ONCE = 1000
"""Tables that are read before they are joined: one by itself takes some 80 KB, however short it is."""


def read_folder(
    files: StoreFiles,
    folder: str,
    schema: pa.Schema,
    wanted: Mapping[str, FileStamp | None],
    columns: list[str] | None = None,
) -> pa.Table:
    """The rows of some of a folder's files, ordered by the files' names, then as in the file.

    Args:
        files: the store's.
        folder: its name.
        schema: what each file must be of.
        wanted: the files to read, each with its size and time as they were listed; None: it was not listed. One that
            is not there, or not any more, is left out.
        columns: the fields to read; None: all.

    Raises:
        StoreError: a file is damaged, foreign or of another schema version.
    """
    rows = schema.empty_table().select(columns or schema.names)
    fold = read_fold(files, folder, schema, columns) if folder in FOLDED and len(wanted) > FEW else None
    singly = sorted(wanted)
    if fold is not None:
        unchanged = {name for name, stamp in wanted.items() if fold.stamps.get(name) == stamp is not None}
        rows = fold.rows(KEYS[folder], unchanged)
        singly = [name for name in singly if name not in unchanged]
    paths = [f"{folder}/{name}{SUFFIX}" for name in singly]
    tables = []
    for path, content in zip(paths, files.contents(paths), strict=True):
        if content is not None:
            tables.append(read_file(files, path, content, schema, columns))
        if len(tables) == _TABLES_AT_ONCE:
            rows = pa.concat_tables([rows, *tables]).combine_chunks()
            tables = []
    rows = pa.concat_tables([rows, *tables]).combine_chunks()
    # Stable: a trial's rows keep their order.
    return rows.sort_by(KEYS[folder]) if fold is not None and singly else rows


def read_file(
    files: StoreFiles, relative: str, content: bytes, schema: pa.Schema, columns: list[str] | None = None
) -> pa.Table:
    """The table of a file's content.

    Raises:
        StoreError: the file is damaged, foreign, of another schema version, or another trial's or data set's.
    """
    try:
        table = from_parquet_bytes(content, schema, columns)
    except (DamagedFileError, ForeignFileError) as error:
        remedy = FOREIGN_REMEDY if isinstance(error, ForeignFileError) else remedy_of(relative)
        raise UnusableFileError(f"{files.describe_path(relative)} {error}; {remedy}") from None
    stated = stated_name(table)
    if stated not in (None, relative):
        raise UnusableFileError(f"{files.describe_path(relative)} was written as {stated!r}; {remedy_of(relative)}")
    # What older releases wrote does not say where it belongs, but for its rows.
    folder, name = folder_and_name(relative)
    if folder in KEYS:
        strangers = set(table[KEYS[folder]].unique().to_pylist()) - {name}
        if strangers:
            raise UnusableFileError(
                f"{files.describe_path(relative)} holds the {KEYS[folder]} {sorted(strangers)[0]!r}, "
                f"not its own; {remedy_of(relative)}"
            )
    return table
