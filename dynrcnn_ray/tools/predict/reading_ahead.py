"""Pictures that threads read before their turn, within a limit of bytes."""

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import pyarrow.fs as pafs

from dynrcnn_ray.tools.predict.pictures import Pixels, UnreadablePictureError, decode_picture, read_content

_READERS = 2
_MOST_READ_AHEAD = 4
MOST_BYTES = 2**28
"""Of unpacked pictures; one that has more is unpacked alone."""


class Read(NamedTuple):
    """A picture; or none, and why."""

    pixels: Pixels | None
    error: str = ""


def read_ahead(
    paths: Sequence[str], source: pafs.FileSystem | None, *, most_bytes: int = MOST_BYTES
) -> Generator[Read, None, None]:
    """Each picture, in order; a few are read meanwhile. One is done with when the next one is asked for.

    Args:
        paths: of `pictures.Listing`.
        source: from `pictures.file_system`.
        most_bytes: so many have the unpacked ones together, or there is but one.
    """
    room = _Room(most_bytes)
    reading: deque[Future[Read]] = deque()
    ahead = iter(enumerate(paths))
    with ThreadPoolExecutor(_READERS) as readers:
        try:
            for turn in range(len(paths)):
                more = islice(ahead, _MOST_READ_AHEAD - len(reading))
                reading.extend(readers.submit(_read, path, source, room, at) for at, path in more)
                yield reading.popleft().result()
                room.leave(turn)
        finally:
            # A caller that stops early would leave readers that wait for ever.
            room.close()
            for each in reading:
                each.cancel()


class _Room:
    """Admits pictures in their order, each once those before it are in and there is room.

    In this order no two wait for each other: room is given back in the same one.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._next = 0
        self._inside: dict[int, int] = {}
        self._is_closed = False
        self._changed = threading.Condition()

    def enter(self, turn: int, num_bytes: int) -> None:
        """Wait for the turn and for room; a second call of a turn does nothing."""

        def may() -> bool:
            inside = sum(self._inside.values())
            return self._is_closed or (self._next == turn and (not inside or inside + num_bytes <= self._most))

        with self._changed:
            if turn < self._next:
                return
            self._changed.wait_for(may)
            self._inside[turn] = num_bytes
            self._next += 1
            self._changed.notify_all()

    def leave(self, turn: int) -> None:
        """Give a picture's room back."""
        with self._changed:
            del self._inside[turn]
            self._changed.notify_all()

    def close(self) -> None:
        """End all waiting, also in the future."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _read(path: str, source: pafs.FileSystem | None, room: _Room, turn: int) -> Read:
    try:
        content = read_content(path, source)
        return Read(decode_picture(content, before_unpacking=lambda num_bytes: room.enter(turn, num_bytes)))
    except UnreadablePictureError as error:
        return Read(None, str(error))
    finally:
        # One that cannot be read has its turn too.
        room.enter(turn, 0)
