"""Identity of a process, to find out later whether it has ended. Its id is not enough: the system reuses ids."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import lru_cache
from typing import Any

__all__ = ["has_exited", "this_process"]

_PS_S = 5.0


def this_process() -> dict[str, Any]:
    """Return what identifies this process: its machine and boot, its PID namespace, its id and its start time."""
    # The id is the cache key: a child of `fork` has another id.
    return _marked(os.getpid())


def has_exited(mark: dict[str, Any]) -> bool:
    """Return whether the process that `this_process` described has ended; False if that cannot be known from here.

    Args:
        mark: What `this_process` returned in that process, on this machine or another that shares the directory.
    """
    here = this_process()
    pid, began = mark.get("pid"), mark.get("began")
    if not isinstance(pid, int) or not began or not here["began"] or mark.get("host") != here["host"]:
        return False
    if mark.get("boot") != here["boot"]:
        return True
    # In another container, the same id belongs to another process.
    return bool(mark.get("ids") == here["ids"] and _start_time(pid) != began)


@lru_cache(maxsize=4)
def _marked(pid: int) -> dict[str, Any]:
    boot = _text("/proc/sys/kernel/random/boot_id").strip()
    try:
        ids = os.readlink("/proc/self/ns/pid")
    except OSError:
        ids = ""
    return {"host": platform.node(), "boot": boot, "ids": ids, "pid": pid, "began": _start_time(pid)}


def _start_time(pid: int) -> str:
    """Return the start time of a process, as text to compare; "" if it has ended or the system does not say."""
    stat = _text(f"/proc/{pid}/stat")
    if stat:
        # proc(5): the name in parentheses may contain anything; the state follows, and the start time is field 22.
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    if os.path.exists("/proc/self/stat") or sys.platform == "win32":
        return ""
    try:
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=_PS_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
