"""The files of a store as bytes, on a local path or any filesystem that pyarrow knows."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from dynrcnn_ray.config.errors import DynrcnnError, one_line
from dynrcnn_ray.config.uris import check_key, without_secrets
from dynrcnn_ray.store.remedies import access_remedy

PARTIAL = ".partial"
"""Folder of a local store in which files are written, before they get their names."""
_READERS = 24
"""Files read at once where they are not local: an object store answers each after some tens of milliseconds.
pyarrow holds 25 connections to it."""


class StoreError(DynrcnnError, ValueError):
    """The store cannot be read or written. Its text is one line: the file, what is wrong, what to do."""

    would_repeat = False  # The storage may be back at the next attempt.


class UnusableFileError(StoreError):
    """A file was read, and is damaged, foreign or another's: to read it again is of no use."""

    would_repeat = True


class FileStamp(NamedTuple):
    """What changes when a file is written again: its size in bytes, and when that was, in nanoseconds since 1970."""

    size: int
    written_at: int


@dataclass(frozen=True)
class StoreFiles:
    """A folder whose files are written whole or not at all. Build one with `StoreFiles.open`."""

    filesystem: pafs.FileSystem
    root: str
    """The storage's path within the filesystem, without a trailing slash."""
    scheme: str
    """The URI's scheme; empty for a local path."""

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> "StoreFiles":
        """A store at a local path or a URI such as `s3://bucket/folder`. Nothing is created before the first write.

        Raises:
            StoreError: the URI cannot be understood or its filesystem not be reached.
        """
        text = os.fspath(location)
        scheme, separator, _ = text.partition("://")
        if not separator:
            return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().absolute()), "")
        try:
            check_key(text)
            filesystem, root = pafs.FileSystem.from_uri(text)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(
                f"storage {scheme}://...: {without_secrets(one_line(error), text)}; use a local path or s3://bucket/x; "
                "a key is best given in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            ) from None
        return cls(filesystem, root.rstrip("/"), "" if filesystem.type_name == "local" else scheme)

    @property
    def place(self) -> str:
        """The storage itself, as `describe_path` names what lies in it."""
        return self.describe_path("").rstrip("/")

    def describe_path(self, relative: str) -> str:
        """The absolute path or URI of a file of the store, for people. Leaves out a URI's credentials and options."""
        path = f"{self.root}/{relative}"
        return f"{self.scheme}://{path}" if self.scheme else path

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a whole file. A reader sees the old content or the new, never a part.

        Raises:
            StoreError: the storage cannot be written.
        """
        target = f"{self.root}/{relative}"
        try:
            if self.filesystem.type_name == "local":
                self._write_aside_and_rename(target, data)
            else:
                # An object store shows an object only once its upload is complete.
                self._write_stream(target, data)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{self.describe_path(relative)} cannot be written: {one_line(error)}; "
                "make room, free the path or choose another storage"
            ) from None

    def is_there(self) -> bool:
        """Whether the storage's folder is there; on an object store, whether it holds anything.

        Raises:
            StoreError: the storage cannot be read.
        """
        with self._readable(""):
            return self.filesystem.get_file_info(self.root).type == pafs.FileType.Directory

    def require_writable(self) -> None:
        """Ask the storage before work whose result it is to hold.

        Raises:
            StoreError: it cannot be written.
        """
        probe = f".probe/{uuid.uuid4().hex}"
        self.write_bytes(probe, b"")
        self.delete(probe)

    def read_bytes(self, relative: str) -> bytes | None:
        """The content of a file; None if there is none.

        Raises:
            StoreError: the storage cannot be read.
        """
        # Not as a stream: an object store would be asked for it in pieces of 256 KiB, one after the other.
        with self._readable(relative):
            try:
                file = self.filesystem.open_input_file(f"{self.root}/{relative}")
            except FileNotFoundError:
                return None
            with file:
                return file.read()

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of a folder's files with this suffix, without it, sorted.

        Raises:
            StoreError: the storage cannot be read.
        """
        return list(self.stamps(folder, suffix))

    def stamps(self, folder: str, suffix: str) -> dict[str, FileStamp]:
        """The same names, each with its file's size and time.

        Raises:
            StoreError: the storage cannot be read.
        """
        selector = pafs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        with self._readable(folder):
            files = self.filesystem.get_file_info(selector)
        stamps = {
            file.base_name.removesuffix(suffix): FileStamp(file.size or 0, file.mtime_ns or 0)
            for file in files
            if file.base_name.endswith(suffix)
        }
        return dict(sorted(stamps.items()))

    def delete(self, relative: str) -> None:
        """Delete a file; one that is already gone is fine.

        Raises:
            StoreError: the storage cannot be written.
        """
        try:
            self.filesystem.delete_file(f"{self.root}/{relative}")
        except FileNotFoundError:
            pass
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{self.describe_path(relative)} cannot be deleted: {one_line(error)}") from None

    def delete_older(self, folder: str, seconds: float) -> None:
        """Delete a folder's files that were written so long ago; one that is already gone is fine.

        Raises:
            StoreError: the storage cannot be read or written.
        """
        for name, stamp in self.stamps(folder, "").items():
            if time.time() - stamp.written_at / 1e9 > seconds:
                self.delete(f"{folder}/{name}")

    def contents(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """The contents of files, in their order; None for one that is not there, or not any more.

        Raises:
            StoreError: the storage cannot be read.
        """
        if self.filesystem.type_name == "local":
            yield from map(self.read_bytes, paths)
        else:
            with ThreadPoolExecutor(_READERS) as readers:
                yield from readers.map(self.read_bytes, paths)

    def _write_aside_and_rename(self, target: str, data: bytes) -> None:
        partial = f"{self.root}/{PARTIAL}/{uuid.uuid4().hex}"
        self.filesystem.create_dir(os.path.dirname(partial))
        self.filesystem.create_dir(os.path.dirname(target))
        try:
            self._write_stream(partial, data)
            self.filesystem.move(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                self.filesystem.delete_file(partial)
            raise

    def _write_stream(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data)

    @contextlib.contextmanager
    def _readable(self, relative: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{self.describe_path(relative)} cannot be read: {one_line(error)}; {access_remedy(error)}"
            ) from None
