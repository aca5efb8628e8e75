"""What a person may ask of batch jobs: look, fetch, cancel, send again, send live, take results in."""

from pllm_notebook.job_commands.batch_commands import BatchCommands, commands, has_journal, short_ids
from pllm_notebook.job_commands.expedite import SentLive, send_live
from pllm_notebook.job_commands.resubmission import resubmit

__all__ = ["BatchCommands", "SentLive", "commands", "has_journal", "resubmit", "send_live", "short_ids"]
