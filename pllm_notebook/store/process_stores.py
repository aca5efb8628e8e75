"""One open store for each directory of a process."""

from __future__ import annotations

import atexit
import os
import threading

from pllm_notebook import settings
from pllm_notebook.store import location
from pllm_notebook.store.disk_store import DiskStore

__all__ = ["close_stores", "current_directory", "open_store"]

_stores: dict[str, DiskStore] = {}
_lock = threading.Lock()


def open_store(directory: str | None = None) -> DiskStore:
    """Return the store of *directory*, opening it where this process has not done so yet.

    Args:
        directory: None for that of `configure(cache_dir=…)`, else of PLLM_CACHE_DIR, else the platform's own.

    Raises:
        StoreError: If it cannot be opened. Nothing was sent.
        UsageError: If the shared directory of `configure(cache_share=…)` cannot be opened. Nothing was sent.
    """
    asked, named = location.chosen_directory(directory)
    asked = os.path.realpath(asked)
    with _lock:
        store = _stores.get(asked)
        if store is None or store.closed:
            settled = location.choose_location(asked, named)
            location.warn_of_network(settled.directory, location.file_system(settled.directory))
            store = _stores[asked] = DiskStore(settled.directory, below=settled.below)
        # Only what a notebook's frames ask for is shared: the directories of programs are their own.
        if asked == os.path.realpath(location.chosen_directory()[0]):
            store.share_with(settings.current().cache_share or os.environ.get("PLLM_CACHE_SHARE") or None)
        return store


def current_directory() -> str:
    """Return where the store of the moment is, or would be made. Opens nothing and makes nothing."""
    asked = os.path.realpath(location.chosen_directory()[0])
    store = _stores.get(asked)
    return asked if store is None else store.directory


def close_stores() -> None:
    """Write what is queued and close every store of this process. Later calls of `open_store` open them again."""
    with _lock:
        stores = list(_stores.values())
        _stores.clear()
    for store in stores:
        store.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
# The writer is a daemon, so that a hung disk cannot keep a kernel from ending; what it holds is written here.
atexit.register(close_stores)
