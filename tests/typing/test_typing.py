"""Type checkers accept right uses of options and refuse wrong ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
USES = [HERE / "right.py", HERE / "wrong.py"]


def said(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr or done.stdout
    return done.stdout


def by_mypy() -> set[tuple[str, int]]:
    shown = said("mypy", "--no-error-summary", "--show-absolute-path", *map(str, USES))
    return {(Path(file).name, int(line)) for file, line in re.findall(r"^(.+?):(\d+): error:", shown, re.MULTILINE)}


def by_pyright() -> set[tuple[str, int]]:
    shown = json.loads(said("basedpyright", "--outputjson", "-p", str(HERE), "--pythonpath", sys.executable))
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in shown["generalDiagnostics"]}


@pytest.mark.timeout(300)  # without its cache mypy reads the whole package
@pytest.mark.parametrize("errors", [by_mypy, by_pyright])
def test_wrong_uses_are_refused_and_no_others(errors: object) -> None:
    lines = USES[1].read_text(encoding="utf-8").splitlines()
    refused = {("wrong.py", number) for number, line in enumerate(lines, 1) if line.endswith("# refused")}

    assert callable(errors)
    assert errors() == refused
    assert len(refused) > 15
