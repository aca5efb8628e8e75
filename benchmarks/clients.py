"""The clients of the makespan comparison: their scripts and environments."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from scenarios import Scenario

__all__ = ["OURS", "PEERS", "Client"]

_HERE = Path(__file__).resolve().parent
_ENVIRONMENTS = _HERE.parent / ".venv-bench"
# Variables that a child inherits. Keys, proxies and settings of this machine must not reach a client.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Client:
    """A client under comparison.

    Attributes:
        name: Its name in the tables.
        script: Its file under `peers/`.
        needs: Packages that pip installs for it. Empty for this process's own environment.
        skip: Returns why a scenario is not meaningful for the client, "" if it is.
        answers: The simulator's answers for it. None for the simulator's own.
    """

    name: str
    script: str
    needs: tuple[str, ...] = ()
    skip: Callable[[Scenario], str] = lambda scenario: ""
    answers: Callable[[Any], Any] | None = None

    def prepare(self) -> str:
        """Return the Python of the client's environment, which is created first if missing. Installs packages."""
        if not self.needs:
            return sys.executable
        directory = _ENVIRONMENTS / re.split("[<>=]", self.needs[0])[0]
        python, made_of = directory / "bin" / "python", directory / "made-of"
        wanted = "\n".join(self.needs)
        if not made_of.exists() or made_of.read_text() != wanted:
            print(f"Making {directory.relative_to(_HERE.parent)} ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-qq", *self.needs], check=True)
            made_of.write_text(wanted)
        return str(python)

    def run(self, address: str, scenario: Scenario, most_s: float) -> dict[str, Any]:
        """Do the work once in a separate process, and return its result.

        Returns:
            What `peers/work.py` prints; {"raised": ...} alone for a process that took longer than *most_s*
            seconds and was ended, or that died.
        """
        given = orjson.dumps(scenario).decode()
        command = [self.prepare(), str(_HERE / "peers" / f"{self.script}.py"), address, given]
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            done = subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=most_s)
        except subprocess.TimeoutExpired:
            return {"raised": f"ended after {most_s:.0f} s"}
        if done.returncode or not done.stdout.strip():
            sys.stderr.write(done.stderr[-2000:])
            return {"raised": f"died with {done.returncode}"}
        line: dict[str, Any] = orjson.loads(done.stdout.strip().splitlines()[-1])
        return line


def _numbered(request: Any) -> Any:
    """Answer openaivec's numbered questions with their numbers, which the simulator's own answers would not have."""
    asked = orjson.loads(request.prompt)["user_messages"]
    body = {"product": "SIMULATED thing", "sentiment": "neutral", "score": 3}
    return {"assistant_messages": [{"id": one["id"], "body": body} for one in asked]}


def _untold(scenario: Scenario) -> str:
    return "" if "requests_per_min" in scenario.sim or "limits" in scenario.sim else "no limit to be told"


def _unspoken(scenario: Scenario) -> str:
    return "it asks through Responses, which such a server does not have" if scenario.provider == "compatible" else ""


_SDK = "openai>=3.3,<4"

OURS = Client("**pllm_notebook**", "ours")
PEERS = {
    client.script: client
    for client in (
        Client("`gather`, SDK retries 2, 64 at once", "gather", (_SDK,)),
        Client("`gather`, SDK retries 10, 256 at once", "gather_patient", (_SDK,)),
        Client("instructor, 256 at once", "with_instructor", ("instructor>=1.17,<2",)),
        Client("langchain-openai `abatch`, 256 at once", "with_langchain", ("langchain-openai>=1.7,<2",)),
        Client(
            "openaivec, one row a call, 256 at once",
            "with_openaivec",
            ("openaivec>=2.9,<3",),
            skip=_unspoken,
            answers=_numbered,
        ),
        Client(
            "the cookbook's processor, told the limits",
            "cookbook",
            ("aiohttp>=3.14,<4", "pydantic>=2.10,<3"),
            skip=_untold,
        ),
    )
}
