"""Stores of replies by key: `open_store` opens the one on disk, `MemoryStore` is for tests.

Importing this package opens nothing. diskcache and SQLite are loaded with the first store.
"""

from pllm_notebook.store.cache_api import CacheCheck, CacheHandle, CacheInfo, age_in_seconds, cache
from pllm_notebook.store.codec import DamagedEntry, NewerEntry
from pllm_notebook.store.comparison_log import ComparisonLog, LoggedComparison
from pllm_notebook.store.damage import READ_ERRORS, is_damage
from pllm_notebook.store.disk_store import DiskStore
from pllm_notebook.store.export_file import export, import_, write_entries
from pllm_notebook.store.label_file import Label, LabelFile, label_from_json, label_to_json
from pllm_notebook.store.later import finish_writes, write_later
from pllm_notebook.store.location import chosen_directory, refuse_file
from pllm_notebook.store.memory import MemoryStore
from pllm_notebook.store.model_filter import ModelFilter
from pllm_notebook.store.process_identity import has_exited, this_process
from pllm_notebook.store.process_stores import close_stores, current_directory, open_store
from pllm_notebook.store.run_files import RunFiles
from pllm_notebook.store.share import open_directory, refuse_share
from pllm_notebook.store.sqlite_connections import SelfClosingConnection

__all__ = [
    "READ_ERRORS",
    "CacheCheck",
    "CacheHandle",
    "CacheInfo",
    "ComparisonLog",
    "DamagedEntry",
    "DiskStore",
    "Label",
    "LabelFile",
    "LoggedComparison",
    "MemoryStore",
    "ModelFilter",
    "NewerEntry",
    "RunFiles",
    "SelfClosingConnection",
    "age_in_seconds",
    "cache",
    "chosen_directory",
    "close_stores",
    "current_directory",
    "export",
    "finish_writes",
    "has_exited",
    "import_",
    "is_damage",
    "label_from_json",
    "label_to_json",
    "open_directory",
    "open_store",
    "refuse_file",
    "refuse_share",
    "this_process",
    "write_entries",
    "write_later",
]
