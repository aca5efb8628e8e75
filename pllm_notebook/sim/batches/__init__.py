"""The providers' batch endpoints: files, jobs on an adjustable clock, and results, some of which may be missing.

`routes` finds the handler of a path. One module for each provider's files and jobs implements its formats. `backend`
has the common part: creating a job, answering its lines as they fall due, and ending it.
"""

from __future__ import annotations

from pllm_notebook.sim.batches.routes import Batches

__all__ = ["Batches"]
