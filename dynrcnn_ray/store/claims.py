"""Claims of one's own that a store has locked: a file for each experiment that states some.

```
<storage>/claims/<experiment>.parquet     one row a claim, as in `schemas.CLAIMS`
```

A store of an earlier release has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dynrcnn_ray.store.parquet import to_parquet_bytes
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import CLAIMS

_FOLDER, _SUFFIX = "claims", ".parquet"


def experiments_with_claims(store: ResultStore) -> list[str]:
    """Names of the experiments that have stated claims, sorted.

    Raises:
        StoreError: the storage cannot be read.
    """
    return store.files.names(_FOLDER, _SUFFIX)


def read_claims(store: ResultStore, experiment: str) -> list[dict[str, Any]]:
    """The locked claims of an experiment, in the order in which they were stated.

    Raises:
        StoreError: the file is damaged, foreign or of another schema version.
    """
    table = store.read_table(_file(experiment), CLAIMS)
    if table is None:
        return []
    maps = ("rows", "metric_prefixes")
    return [{**row, **{name: row[name] and dict(row[name]) for name in maps}} for row in table.to_pylist()]


def write_claims(store: ResultStore, experiment: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all claims of an experiment; fields as in `CLAIMS`. Replaces the earlier file.

    Raises:
        StoreError: the storage cannot be written.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=CLAIMS)
    store.files.write_bytes(_file(experiment), to_parquet_bytes(table, _file(experiment)))


def _file(experiment: str) -> str:
    return f"{_FOLDER}/{experiment}{_SUFFIX}"
