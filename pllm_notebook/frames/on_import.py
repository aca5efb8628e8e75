"""Calls that wait until any code imports a module."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from pllm_notebook.runtime import Slot

__all__ = ["when_imported"]

_WAITING: Slot[dict[str, Callable[[], None]]] = Slot("calls that wait for an import", dict, is_kept=True)


def when_imported(name: str, call: Callable[[], None]) -> None:
    """Run *call* once the module *name* is loaded: now, or right after its import. Imports no module itself.

    Args:
        name: Name of a top-level module.
        call: The function to call. It must not raise, or the import of a module that is not ours would fail.
    """
    if name in sys.modules:
        importlib.import_module(name)  # waits if another thread is still importing it
        call()
        return
    _WAITING.value[name] = call
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """A finder that finds awaited modules with the other finders, and schedules the call after their execution."""

    def __init__(self) -> None:
        self._own = threading.local()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name not in _WAITING.value or getattr(self._own, "searching", False):
            return None
        self._own.searching = True
        try:
            found = _found_by_others(self, name, path, target)
        finally:
            self._own.searching = False
        if found is not None and found.loader is not None:
            _call_after(name, found.loader)
        return found


def _found_by_others(
    own: _Finder, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = None if finder is own else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find is None else find(name, path, target)
        if spec is not None:
            return spec
    return None


def _call_after(name: str, loader: Any) -> None:
    """Make this loader run the call of *name* after it has executed the module.

    The loader keeps its class, because other code asks it for resources or source code.
    """
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        call = _WAITING.value.pop(name, None)
        if call is not None:
            call()

    loader.exec_module = exec_module
