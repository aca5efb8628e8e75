"""The accounts whose jobs this process can access: those with their key, client and address set here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pllm_notebook.batch import Job
from pllm_notebook.exceptions import PllmError
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.settings import Options

__all__ = ["JobAccounts"]


class JobAccounts:
    """The models of jobs, each with the account that created the job. Sends nothing; usable from any thread.

    Args:
        resolve: Resolves the model in options with the currently configured servers and clients.
    """

    def __init__(self, resolve: Callable[[Options], ResolvedModel]) -> None:
        self._resolve = resolve
        self._targets: dict[tuple[str, str], ResolvedModel] = {}

    def register(self, target: ResolvedModel) -> None:
        """Remember a run's model for the jobs of its account."""
        self._targets[target.label, target.account] = target

    def of(self, job: Job) -> ResolvedModel | None:
        """Return the model of a job, or None if its account is not available."""
        found: ResolvedModel | None = None
        # Current settings come first: a caller may have closed the client of an earlier run and set another.
        with suppress(PllmError):
            found = self._resolve(Options(model=job.target))
        if found is None or (found.provider, found.account) != (job.provider, job.account):
            found = self._targets.get((job.target, job.account))
        return found

    def reason_unavailable(self, job: Job) -> str:
        """Describe why a job's account is not available; "" if it is."""
        if self.of(job) is not None:
            return ""
        try:
            target = self._resolve(Options(model=job.target))
        except PllmError as error:
            return str(error)
        if target.missing_key is not None:
            return f"It needs {target.missing_key.variable}, which is not set here."
        if target.simulated:
            return f"The simulator that has it is another kernel's, or has ended. {_give_up(job)}"
        return f"It was made with another key, client or address than is set here. {_give_up(job)}"


def _give_up(job: Job) -> str:
    return f"Where that is gone for good, pllm.jobs().abandon('{job.id[:8]}') lets its rows be asked again."
