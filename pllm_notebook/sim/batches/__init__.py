"""The providers' batch endpoints: files, jobs on a clock that can be moved, results and their absence.

`routes` finds who serves a path; one module for each provider's files and jobs speaks its formats; `office`
does what is the same for all: creating a job, answering its lines as they fall due, ending it.
"""

from __future__ import annotations

from pllm_notebook.sim.batches.routes import Batches

__all__ = ["Batches"]
