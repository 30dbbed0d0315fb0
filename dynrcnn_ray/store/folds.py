"""The rows of a folder's many files once more in one file, so that a store of thousands of trials is read at once.

```
<storage>/folds/trials.parquet     the rows of trials/
<storage>/folds/dynamics.parquet   the rows of dynamics/
```

A folder's own files stay: they are what counts, and what other readers see. A fold remembers the size and the time of
each file that it repeats, and a reader takes from it the rows of those files alone that are still the same. A fold that
is missing, damaged, of another release or out of date thus changes no result, only the time.
"""

import json
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dynrcnn_ray.store.files import FileStamp, StoreError, StoreFiles
from dynrcnn_ray.store.parquet import (
    DamagedFileError,
    ForeignFileError,
    from_parquet_bytes,
    stated_name,
    to_parquet_bytes,
)
from dynrcnn_ray.store.schemas import DYNAMICS, TRIALS

FOLDED = {"trials": TRIALS, "dynamics": DYNAMICS}
"""The folders that are folded, with what their files are of."""
FEW = 50
"""So few files are read one by one: a fold is a large file."""
_NEW_FILES = 200
"""So many files that the fold lacks are worth writing it again."""
SETTLED_SECONDS = 10
"""A file that was written in this time may be written again within what a file system's clock can tell apart."""
_STAMPS_KEY = b"dynrcnn_ray.folded"


class Fold(NamedTuple):
    """Rows of many files.

    Attributes:
        table: ordered by the files' names, then as in the file.
        stamps: size and time of each file when it was folded, by name.
    """

    table: pa.Table
    stamps: Mapping[str, FileStamp]

    def rows(self, key: str, names: Collection[str]) -> pa.Table:
        """The rows of some of the files; `key` is the field that holds a file's name."""
        if len(names) == len(self.stamps):
            return self.table
        return self.table.filter(pa.array([name in names for name in self.table[key].to_pylist()], pa.bool_()))


def read_fold(files: StoreFiles, folder: str, schema: pa.Schema, columns: list[str] | None = None) -> Fold | None:
    """The fold of a folder; None if there is none that this release can read: the folder's own files hold the same."""
    try:
        content = files.read_bytes(_path(folder))
    except StoreError:
        return None
    if content is None:
        return None
    try:
        table = from_parquet_bytes(content, schema, columns)
        stamps = json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[_STAMPS_KEY])
    except (DamagedFileError, ForeignFileError, KeyError):
        return None
    if stated_name(table) not in (None, _path(folder)):
        return None
    table = table.replace_schema_metadata(schema.metadata)
    return Fold(table, {name: FileStamp(*stamp) for name, stamp in stamps.items()})


def worth_folding(stamps: Mapping[str, FileStamp], fold: Fold | None) -> dict[str, FileStamp]:
    """Which files a new fold should repeat; none if the old one is good enough.

    Args:
        stamps: the files that are there.
        fold: the old one.
    """
    now = time.time()
    settled = {name: stamp for name, stamp in stamps.items() if now - stamp.written_at / 1e9 > SETTLED_SECONDS}
    old = {} if fold is None else fold.stamps
    new = sum(old.get(name) != stamp for name, stamp in settled.items())
    return settled if new >= _NEW_FILES else {}


def write_fold(files: StoreFiles, folder: str, table: pa.Table, stamps: Mapping[str, FileStamp]) -> None:
    """Write a folder's fold; it replaces the earlier one as a whole.

    Args:
        files: where to write.
        folder: its name.
        table: the rows of the files of `stamps`, or newer ones, ordered by the files' names.
        stamps: size and time of each file, from before its rows were read.

    Raises:
        StoreError: the storage cannot be written.
    """
    metadata = {**(table.schema.metadata or {}), _STAMPS_KEY: json.dumps(stamps).encode()}
    files.write_bytes(_path(folder), to_parquet_bytes(table.replace_schema_metadata(metadata), _path(folder)))


def _path(folder: str) -> str:
    return f"folds/{folder}.parquet"
