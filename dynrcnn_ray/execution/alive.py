"""A trial's driver renews a sign of life, by which a report tells a slow trial from one that was killed."""

import contextlib
import threading
from collections.abc import Iterator

from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.stalled import SECONDS_BETWEEN_SIGNS


@contextlib.contextmanager
def signs_of_life(store: ResultStore, trial_id: str, *, every: float = SECONDS_BETWEEN_SIGNS) -> Iterator[None]:
    """Leave signs in the store, by a thread, until the work inside has ended; the first after `every` seconds."""
    has_ended = threading.Event()

    def leave_signs() -> None:
        while not has_ended.wait(every):
            # A storage that does not answer for a while is no reason to end a training.
            with contextlib.suppress(StoreError):
                store.write_sign_of_life(trial_id)

    thread = threading.Thread(target=leave_signs, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
