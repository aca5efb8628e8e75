"""Commands on batch jobs: refresh, fetch, cancel, resubmit, send live, import results."""

from pllm_notebook.job_commands.batch_commands import BatchCommands, commands, has_journal, short_ids
from pllm_notebook.job_commands.expedite import SentLive, send_live
from pllm_notebook.job_commands.resubmission import resubmit
from pllm_notebook.job_commands.results_import import Imported, import_results

__all__ = [
    "BatchCommands", "Imported", "SentLive", "commands", "has_journal", "import_results", "resubmit", "send_live",
    "short_ids",
]  # fmt: skip
