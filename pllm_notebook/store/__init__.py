"""Where replies are kept, by key: `open_store` for the one on disk, `MemoryStore` for tests.

Importing this opens nothing; diskcache and SQLite are loaded with the first store.
"""

from pllm_notebook.store.cache_api import CacheCheck, CacheHandle, CacheInfo
from pllm_notebook.store.codec import DamagedEntry, NewerEntry
from pllm_notebook.store.disk_store import DiskStore
from pllm_notebook.store.export_file import export, import_
from pllm_notebook.store.memory import MemoryStore
from pllm_notebook.store.process_stores import close_stores, open_store

__all__ = [
    "CacheCheck",
    "CacheHandle",
    "CacheInfo",
    "DamagedEntry",
    "DiskStore",
    "MemoryStore",
    "NewerEntry",
    "close_stores",
    "export",
    "import_",
    "open_store",
]
