"""A kernel dies at the worst moment of a batch, and the next one pays for nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side
from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import os, signal
from functools import partial
import pandas as pd
import pllm_notebook as pllm
import pllm_notebook.batch_jobs.service as office
from pllm_notebook.batch import Journal
os.environ.update({environment!r})
# A dead kernel's jobs are its own for a minute; here for a moment.
office.JournalAccess = partial(office.JournalAccess, lease_s=0.5)
office.FIRST_LOOK_S = 0.1
df = pd.DataFrame({{"text": [f"text {{i}}" for i in range(20)]}})

def ask():
    return df.llm.parse(bool, "Is {{text}} good?", model={model!r}, mode="batch", confirm=False, progress=False)
"""

# The provider has created the job, and the kernel dies before it can write that down.
DIE = "Journal.created = lambda *args: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.sample(1)
@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_a_creation_that_a_killed_kernel_did_not_record_is_found_by_the_next(
    tmp_path: Path, sim: Simulator, side: Side
) -> None:
    sim.set(batch_s=0)
    environment = {side.key: "any-key", side.address: sim.base_url(side.wire)}
    kernel = Kernel(tmp_path, SETUP.format(environment=environment, model=side.model))
    try:
        kernel.ok(DIE)
        kernel.start("ask()")
        kernel.manager.provisioner.process.wait(180)

        kernel.restart()
        kernel.ok("out = ask()")

        assert kernel.value("out['answer'].notna().all().item()")
        assert kernel.value("pllm.jobs().frame['state'].tolist()") == ["done"]
    finally:
        kernel.close()
    assert sim.stats().batch_jobs == 1
    assert sim.stats().repeated == 0
