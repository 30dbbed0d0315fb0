"""Rows and columns as tables that fit a schema of the store."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dynrcnn_ray.config.errors import one_line
from dynrcnn_ray.store.files import StoreError


def table_of_rows(relative: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of rows.

    Args:
        relative: the file that it is for.
        rows: each with the schema's fields; those that may be null may be absent.
        schema: what the table must be of.

    Raises:
        StoreError: a row does not fit.
    """
    # pyarrow drops unknown keys without a word: a misspelt field would be lost.
    unknown = sorted({name for row in rows for name in row} - set(schema.names))
    demanded = [field.name for field in schema if not field.nullable]
    missing = [name for name in demanded if any(row.get(name) is None for row in rows)]
    if unknown or missing:
        raise StoreError(f"{relative} does not fit its schema: unknown fields {unknown}, missing fields {missing}")
    try:
        return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise StoreError(f"{relative} does not fit its schema: {one_line(error)}") from None


def table_of_columns(relative: str, trial_id: str, columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """A table of a trial's columns: an array for each field of the schema but `trial_id`.

    Args:
        relative: the file that it is for.
        trial_id: whose rows they are.
        columns: at least one, all of one length.
        schema: what the table must be of.

    Raises:
        StoreError: the columns do not fit.
    """
    count = len(next(iter(columns.values())))
    try:
        return pa.Table.from_pydict({"trial_id": [trial_id] * count, **columns}, schema=schema)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{relative} does not fit its schema: {one_line(error)}") from None
