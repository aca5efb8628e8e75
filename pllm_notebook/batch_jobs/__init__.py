"""Batch runs: the dispatcher that collects calls, and the service that drives their jobs."""

from pllm_notebook.batch_jobs.background import start_polling
from pllm_notebook.batch_jobs.batch_results import batch_rate, decode_reply
from pllm_notebook.batch_jobs.journal_lookup import JournalLookup
from pllm_notebook.batch_jobs.service import BatchService, batch_service_for

__all__ = ["BatchService", "JournalLookup", "batch_rate", "batch_service_for", "decode_reply", "start_polling"]
