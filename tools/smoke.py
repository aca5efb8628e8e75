"""Test an installed package without a key, and find files that are missing in its wheel.

python -P tools/smoke.py        -P: import the installed package, not the clone beside it
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata, resources
from pathlib import Path


def main() -> int:
    """Ask the simulator about a frame, and check the files that are not code. Return the exit code."""
    import pandas as pd
    from pydantic import BaseModel, Field

    import pllm_notebook as pllm

    where = Path(pllm.__file__).resolve()
    assert "site-packages" in where.parts, f"This is a clone, not an installed package: {where}"
    assert metadata.version("pllm_notebook") == pllm.__version__

    class Review(BaseModel):
        """Facts stated in a product review."""

        product: str
        score: int = Field(ge=1, le=5)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pllm.configure(cache_dir=cache, model="sim:openai", progress=False)
        df = pd.DataFrame({"text": ["The lamp is lovely.", "The kettle leaks."]})
        out = df.llm.parse(Review, "{text}")
        again = df.llm.parse(Review, "{text}")
        with pllm.testing.fake(lambda request: True):
            assert df.llm.parse(bool, "{text}")["answer"].all()

    assert out.llm.status.tolist() == ["ok", "ok"]
    assert again.llm.status.tolist() == ["cached", "cached"]
    assert [str(dtype) for dtype in out.dtypes][1:] == ["string", "Int64"]
    for file in ("py.typed", "notebook/run_view.js", "notebook/run_view.css"):
        assert resources.files("pllm_notebook").joinpath(*file.split("/")).is_file(), file
    assert "pllm_notebook" in {each.name for each in metadata.entry_points(group="pytest11")}
    relative = re.findall(r"\]\((?!https?://)[^)]*\)", metadata.metadata("pllm_notebook")["Description"])
    assert not relative, f"Links of the description that lead nowhere on a package index: {relative}"
    command = Path(sys.executable).with_name("pllm")
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"pllm_notebook {pllm.__version__}\n", told
    print(f"pllm_notebook {pllm.__version__} works on Python {sys.version.split()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
