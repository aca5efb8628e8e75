"""Ask a warm prompt a few times and print how often its way changes from one file of the package to another.

Counted are calls of the package's functions and methods. A coroutine or generator that is resumed is not called again,
and a lambda or comprehension is read as part of the function that it is written in.
"""

from __future__ import annotations

import inspect
import itertools
import json
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp  # noqa: F401  # what the first call would import
import openai  # noqa: F401
import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator
from pllm_notebook.store import finish_writes

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

ROOT = str(Path(__file__).parents[2] / "pllm_notebook") + "/"

# Files by thread: what two threads do at once is no change of file for a reader of either.
_files: defaultdict[int, list[str]] = defaultdict(list)
_functions: list[str] = []
_recording = threading.Event()


# What is written when a prompt is over: on a busy machine it falls into the prompt after it.
_LATER = "pllm-registry"

# What clocks call a few times a second, whatever is asked: a slow machine has more of it in a prompt.
_CLOCKS = {"LiveRun._tick", "LimitDivision._follow", "LimitCache.keep"}
_in_clock = threading.local()


def _note(frame: FrameType, event: str, _: Any) -> None:
    code = frame.f_code
    if code.co_qualname in _CLOCKS and event in ("call", "return"):
        _in_clock.now = event == "call"
        return
    if getattr(_in_clock, "now", False):
        return
    if event == "call" and _recording.is_set() and code.co_filename.startswith(ROOT):
        if threading.current_thread().name.startswith(_LATER):
            return
        _functions.append(f"{code.co_filename.removeprefix(ROOT)} {code.co_qualname}")
        if not code.co_name.startswith("<") and not _is_resumed(frame):
            _files[threading.get_ident()].append(code.co_filename)


def _is_resumed(frame: FrameType) -> bool:
    """Return whether a coroutine or generator goes on after a `yield` or `await` (the argument of RESUME is not 0)."""
    return bool(frame.f_code.co_flags & _SUSPENDABLE) and frame.f_code.co_code[frame.f_lasti + 1] & 3 != 0


def main() -> None:
    # Before any thread of the package begins, and after what others' imports call, which is far more.
    threading.setprofile(_note)
    sys.setprofile(_note)

    class Read(BaseModel):
        """What was read."""

        good: bool

    def ask(text: str) -> None:
        pd.DataFrame({"text": [text]}).llm.parse(Read, "Is {text} good?", model="here:any")

    with Simulator() as simulator, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        pllm.configure(cache_dir=cache, progress=False, servers={"here": simulator.base_url("compatible")})
        for warm in ("a", "b", "c"):
            ask(warm)
        walks = []
        for word in "defghijklmno":
            finish_writes()
            _files.clear()
            _functions.clear()
            _recording.set()
            ask(word)
            _recording.clear()
            files = [list(some) for some in list(_files.values())]
            changes = sum(a != b for some in files for a, b in itertools.pairwise(some))
            counts = {"calls": sum(map(len, files)), "files": len(set().union(*files)), "changes": changes}
            walks.append((counts, list(_functions)))
    # The least of a dozen: another timer may add to any of them.
    counts, functions = min(walks, key=lambda walk: walk[0]["changes"])
    print(json.dumps(counts))
    print(json.dumps(functions))


if __name__ == "__main__":
    main()
