"""Ask a warm prompt a few times and print how often its way changes from one file of the package to another."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = str(Path(__file__).parents[2] / "pllm_notebook") + "/"

# Files by thread: what two threads do at once is no change of file for a reader of either.
_files: defaultdict[int, list[str]] = defaultdict(list)
_functions: list[str] = []
_recording = threading.Event()


def _note(frame: FrameType, event: str, _: Any) -> None:
    if event == "call" and _recording.is_set() and frame.f_code.co_filename.startswith(ROOT):
        _files[threading.get_ident()].append(frame.f_code.co_filename)
        _functions.append(f"{frame.f_code.co_filename.removeprefix(ROOT)} {frame.f_code.co_qualname}")


def main() -> None:
    # Before the package is imported: threads that begin later are heard too.
    threading.setprofile(_note)
    sys.setprofile(_note)

    import pandas as pd
    from pydantic import BaseModel

    import pllm_notebook as pllm
    from pllm_notebook.sim import Simulator

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
        for word in ("d", "e", "f", "g"):
            _files.clear()
            _functions.clear()
            _recording.set()
            ask(word)
            _recording.clear()
            files = [list(some) for some in list(_files.values())]
            changes = sum(a != b for some in files for a, b in itertools.pairwise(some))
            counts = {"calls": sum(map(len, files)), "files": len(set().union(*files)), "changes": changes}
            walks.append((counts, list(_functions)))
    # The least: threads that finish the prompt before, or a timer, may add to any of them.
    counts, functions = min(walks, key=lambda walk: walk[0]["changes"])
    print(json.dumps(counts))
    print(json.dumps(functions))


if __name__ == "__main__":
    main()
