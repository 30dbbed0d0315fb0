"""A table as the bytes of a Parquet file, with its name and a checksum over all of them; and back, if they are whole.

Parquet's own page checksums leave the footer open: a wrong bit there moves a column, and other numbers are read. The
name is the file's place in its store: a file of another trial or data set that was copied there is known by it.
"""

import zlib

import pyarrow as pa
import pyarrow.parquet as pq

from dynrcnn_ray.config.errors import DynrcnnError, one_line
from dynrcnn_ray.store.schemas import FORMER_NAMES, READABLE_VERSIONS, SCHEMA_VERSION, VERSION_KEY

CHECKSUM_KEY = "dynrcnn_ray.crc32"
_NAME_KEY = b"dynrcnn_ray.file"
_EMPTY = b"00000000"
# In the footer the value follows its key: a field of Thrift's compact protocol, of eight bytes.
_MARK = CHECKSUM_KEY.encode() + b"\x18\x08"


class DamagedFileError(DynrcnnError, ValueError):
    """Bytes that cannot be read as a table. Its text goes on from the file's name: what is wrong with it."""

    would_repeat = True


class ForeignFileError(DynrcnnError, ValueError):
    """A whole file, but of somebody else or of another version. Its text goes on from the file's name."""

    would_repeat = True


def to_parquet_bytes(table: pa.Table, relative: str) -> bytes:
    """A table as the content of a Parquet file, its schema's metadata included.

    Args:
        table: what to write.
        relative: where in the store; the file says so, and is refused elsewhere.
    """
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _NAME_KEY: relative.encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM_KEY: _EMPTY.decode()})
    before, mark, after = sink.getvalue().to_pybytes().rpartition(_MARK)
    assert after.startswith(_EMPTY), "the checksum's place is not where it should be"
    after = after.removeprefix(_EMPTY)
    return before + mark + _checksum(before, after) + after


def from_parquet_bytes(content: bytes, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """The table of a file's content.

    Args:
        content: of the whole file. Older releases wrote no checksum; what they wrote is read unchecked.
        schema: what the table must be of.
        columns: the fields to read; None: all.

    Returns:
        Its columns in the schema's order, or in the given one; nulls for the fields that an older version lacks.

    Raises:
        DamagedFileError: some of its bytes are not as they were written.
        ForeignFileError: it is of another schema or another version.
    """
    before, mark, after = content.rpartition(_MARK)
    if mark and _checksum(before, after[len(_EMPTY) :]) != after[: len(_EMPTY)]:
        raise DamagedFileError("is damaged: its content does not match its checksum")
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            found = file.schema_arrow
            _check_schema(found, schema)
            wanted = columns or schema.names
            names = {name: name if name in found.names else FORMER_NAMES.get(name, name) for name in wanted}
            there = {name: own for name, own in names.items() if own in found.names}
            # A file has few rows: handing its columns to other threads costs more than reading them.
            table = file.read(list(there.values()), use_threads=False).select(list(there.values()))
        if list(there) != table.column_names:
            table = table.rename_columns(list(there)).replace_schema_metadata(table.schema.metadata)
        for name in set(wanted).difference(there):
            field = schema.field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
        if not mark:
            table.validate(full=True)
        return table.select(wanted)
    except ForeignFileError:
        raise
    except Exception as error:  # Broken bytes make the parser raise nearly anything.
        if mark and isinstance(error, MemoryError):  # Its bytes are whole.
            raise
        raise DamagedFileError(f"cannot be read: {one_line(error)}") from None


def stated_name(table: pa.Table) -> str | None:
    """Where in the store the file of a table was written to; None: an older release wrote it, which did not say so."""
    stated = (table.schema.metadata or {}).get(_NAME_KEY)
    return None if stated is None else stated.decode()


def _checksum(before: bytes, after: bytes) -> bytes:
    """Of all bytes but the checksum's own."""
    return b"%08x" % zlib.crc32(after, zlib.crc32(before))


def _check_schema(found: pa.Schema, expected: pa.Schema) -> None:
    version = (found.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise ForeignFileError("was not written by dynrcnn_ray")
    if version not in READABLE_VERSIONS:
        readable = ", ".join(known.decode() for known in READABLE_VERSIONS)
        shown = version.decode(errors="replace")
        raise ForeignFileError(f"has schema version {shown}, this release reads {readable}")
    if found.equals(expected):
        return
    if version != SCHEMA_VERSION:
        names = {former: name for name, former in FORMER_NAMES.items() if former in found.names}
        found = pa.schema([field.with_name(names.get(field.name, field.name)) for field in found])
    lacking = [field for field in expected if field.name not in found.names]
    if (
        any(field.name not in expected.names or not field.equals(expected.field(field.name)) for field in found)
        or not all(field.nullable for field in lacking)
        or (lacking and version == SCHEMA_VERSION)
    ):
        raise ForeignFileError("has other fields than this release writes")
