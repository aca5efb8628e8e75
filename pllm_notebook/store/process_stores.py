"""The open stores of this process, one for each directory."""

from __future__ import annotations

import os

from pllm_notebook import settings
from pllm_notebook.runtime import RUNTIME, ExitStage, Locked, Slot
from pllm_notebook.store import location
from pllm_notebook.store.disk_store import DiskStore

__all__ = ["close_stores", "current_directory", "flush_stores", "open_store"]


class _Stores(Locked):
    """The open stores by requested directory."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[str, DiskStore] = {}

    def close(self) -> None:
        with self.lock:
            stores = list(self.opened.values())
            self.opened.clear()
        for store in stores:
            store.close()


# The writer is a daemon thread, so that a hung disk cannot keep a kernel from exiting; its queue is written at exit.
_STORES: Slot[_Stores] = Slot("stores", _Stores, close=_Stores.close, stage=ExitStage.STORES)


def open_store(directory: str | None = None) -> DiskStore:
    """Return the store of *directory*, and open it if this process has not done so yet.

    Args:
        directory: The cache directory. None for `configure(cache_dir=…)`, else PLLM_CACHE_DIR, else the platform's
            cache directory.

    Raises:
        StoreError: If the store cannot be opened. Nothing was sent.
        UsageError: If the shared directory of `configure(cache_share=…)` cannot be opened. Nothing was sent.
    """
    asked, named = location.chosen_directory(directory)
    asked = os.path.realpath(asked)
    stores = _STORES.value
    with stores.lock:
        store = stores.opened.get(asked)
        if store is None or store.closed:
            settled = location.choose_location(asked, named)
            location.warn_of_network(settled.directory, location.file_system(settled.directory))
            store = stores.opened[asked] = DiskStore(settled.directory, below=settled.below)
        # Only the answers to a notebook's dataframes are shared, not those in the directories of programs.
        if directory is None or asked == os.path.realpath(location.chosen_directory()[0]):
            store.share_with(settings.current().cache_share or os.environ.get("PLLM_CACHE_SHARE") or None)
        return store


def current_directory() -> str:
    """Return the directory where the current store is or would be created. Opens and creates nothing."""
    asked = os.path.realpath(location.chosen_directory()[0])
    store = _STORES.value.opened.get(asked)
    return asked if store is None else store.directory


def flush_stores() -> None:
    """Wait until all results and records of this process's ended runs are on disk. Opens nothing."""
    RUNTIME.close(ExitStage.RECORDS, ExitStage.WRITERS)
    for store in list(_STORES.value.opened.values()):
        store.flush()


def close_stores() -> None:
    """Write all queued entries and close every store of this process. Later calls of `open_store` reopen them."""
    _STORES.value.close()
