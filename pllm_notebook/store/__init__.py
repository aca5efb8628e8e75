"""Where replies are kept, by key: `open_store` for the one on disk, `MemoryStore` for tests.

Importing this opens nothing; diskcache and SQLite are loaded with the first store.
"""

from pllm_notebook.store.cache import DiskStore
from pllm_notebook.store.envelope import DamagedEntry, NewerEntry
from pllm_notebook.store.handle import CacheCheck, CacheHandle, CacheInfo
from pllm_notebook.store.memory import MemoryStore
from pllm_notebook.store.shared import close_stores, open_store
from pllm_notebook.store.transfer import export, import_

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
