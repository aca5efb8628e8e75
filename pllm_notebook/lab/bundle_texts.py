"""The texts in a bundle: a README, a script that rebuilds the frame, and the versions that it was made with."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pllm_notebook.formatting import counted

__all__ = ["environment", "readme", "requirements", "script"]

_PACKAGES = ("pllm_notebook", "numpy", "pandas", "polars", "pyarrow", "pydantic", "orjson", "diskcache", "scipy",
             "scikit-learn", "genai-prices")  # fmt: skip


def environment() -> dict[str, Any]:
    """Return the versions of Python, the system and the packages that affect answers or figures."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}", **found}


def requirements(known: Mapping[str, Any]) -> str:
    """Return a requirements file for rebuilding."""
    needed = ("pllm_notebook", "numpy", "pandas", "polars", "pyarrow", "pydantic")
    head = f"# Python {known['python']}; made on {known['system']}, with Python {sys.version_info.major}\n"
    return head + "".join(f"{name}=={known[name]}\n" for name in needed if name in known)


def script() -> str:
    """Return the script that rebuilds the frame."""
    return '''"""Rebuild the frame of this bundle. No key, no network, no call.

    pip install -r requirements.txt
    python rebuild.py [rows.parquet]

With a file of the input rows (the same cells, in any order), the answers are joined to them. Without one,
and without rows.parquet in this directory, the frame has only the answers, in the order of the original frame.
"""

import sys
from pathlib import Path

import pandas as pd

import pllm_notebook as pllm

here = Path(__file__).resolve().parent
pllm.configure(cache_dir=here / "cache")  # in this directory, so that your own cache is not changed
rows = pd.read_parquet(sys.argv[1]) if len(sys.argv) > 1 else None
frame = pllm.open_bundle(here, rows)
print(frame)
'''


def readme(manifest: Mapping[str, Any], title: str, replies: int) -> str:
    """Return the README: what the bundle is, how to use it, and whether it contains text of rows."""
    holds = (
        "It contains the input rows (`rows.parquet`), and the cells of labelled rows (`labels.csv`)."
        if manifest["holds_rows"]
        else "It does not contain the input rows or the cells of labelled rows: rows are identified by hashes of "
        "their cells. To join the answers to the rows, you need the rows themselves."
    )
    inexact = "" if not manifest["inexact"] else (
        f"\n{counted(manifest['inexact'], 'cell')} could not be written without loss.\n"
    )  # fmt: skip
    made_with = manifest["environment"]["pllm_notebook"]
    return f"""# {title}

{counted(manifest["rows"], "row")} of run `{manifest["run"]}`. Made with pllm_notebook {made_with}.

```sh
pip install -r requirements.txt
python rebuild.py
```

or, in a notebook, `pllm.open_bundle("…")`, which adds replies and labels to your cache. Neither needs a key or sends
anything. With your copy of the rows: `pllm.open_bundle("…", df)`.
{inexact}
| file | holds |
| --- | --- |
| `report.html`, `report.json` | question, models, labels, figures |
| `replies.jsonl.gz` | {counted(replies, "reply")} of the model, unchanged, with any text of a row that they quote |
| `runs/` | the run's entry in the registry: question, options, and for each row hashes and keys |
| `labels.csv` | labels of these rows |
| `bundle.json` | columns, corrected cells, versions, checksums |
| `rebuild.py`, `requirements.txt` | rebuild the frame |

{holds}
"""
