"""The recipes of docs/architecture.md, followed: what must be written, and that nothing else must."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The one row, written into the table when the package is imported; the rest of the package is as it is.
_KIND = r"""
import importlib.util
import sys

import pandas as pd

LAST = "    NOT_STORED ="
ROW = '    ON_HOLIDAY = "on_holiday", _Facts(retried=True, maybe_paid=True, line="api_errors", error=APIError)\n'

spec = importlib.util.find_spec("pllm_notebook.failures")
source = spec.loader.get_source(spec.name)
assert source.count(LAST) == 1
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
exec(compile(source.replace(LAST, ROW + LAST), spec.origin, "exec"), module.__dict__)

import pllm_notebook as pllm
from pllm_notebook.ensemble.completion import error_of
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.providers import errors
from pllm_notebook.sim import SimAnswer

errors._BY_STATUS[418] = FailureKind.ON_HOLIDAY  # where it arises
failure = Failure(FailureKind.ON_HOLIDAY, "Back on Monday.")
print(FailureKind("on_holiday").retried, type(error_of(failure)).__name__)

pllm.configure(
    model="sim:openai", progress=False, max_retries=1,
    sim={"answers": lambda request: SimAnswer.status(418)},
)
out = pd.DataFrame({"text": ["a"]}).llm.parse(bool, "Is {text} good?")
print(out.llm.errors["kind"].item(), out.llm.errors["attempts"].item())
"""


def test_a_failure_kind_is_one_row_of_the_table(tmp_path: Path) -> None:
    """It is retried, counted, logged and raised as its columns say, and no other list of kinds has to be changed."""
    script = tmp_path / "kind.py"
    script.write_text(_KIND)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=ROOT, env={"PLLM_CACHE_DIR": str(tmp_path / "cache"), "PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert (done.stdout.split(), done.stderr) == (["True", "APIError", "on_holiday", "2"], "")
