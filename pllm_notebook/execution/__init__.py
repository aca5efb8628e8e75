"""Plan a run, look up cached answers, send the rest and record the results. Combines the packages below."""

from pllm_notebook.display_registry import register_display
from pllm_notebook.execution.asked_model import decision_target, resolve_model, start_simulator
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.cache_key import KEY_VERSION, OUTPUT_LIMIT
from pllm_notebook.execution.call_spec import CallSpec, EncodedPrompt
from pllm_notebook.execution.confirmation import Confirm, confirm, confirm_price, estimated_cost_usd, format_estimate
from pllm_notebook.execution.decider import Decider
from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.explain import Explanation, decoded_body, position_of, shown_examples
from pllm_notebook.execution.failure_recorder import full_message
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.execution.launch import (
    batch_service,
    build_spec,
    estimate_rows,
    instruction_for,
    look_after_jobs,
    options_for,
    services_for,
    start,
    store_for,
)
from pllm_notebook.execution.lists import Part, estimate_list, parts_of, start_list
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.progress import RunProgress
from pllm_notebook.execution.replies import ReplyParser
from pllm_notebook.execution.request_preview import RequestLines, request_lines
from pllm_notebook.execution.results import SKIPPED, UNPLANNED, ResultTable, is_retryable
from pllm_notebook.execution.row_record import (
    STATUSES,
    RowRecord,
    SampleRecord,
    SecondRecord,
    key_prefixes,
    kind_number,
    record_of_calls,
    record_of_prompts,
)
from pllm_notebook.execution.row_source import (
    ContextFailed,
    Contexts,
    ContextualRows,
    DerivedRows,
    JudgedRows,
    Rows,
    RowSource,
    WholePrompts,
)
from pllm_notebook.execution.run import Run, handle_of, live_of
from pllm_notebook.execution.run_recorder import RecordableRows
from pllm_notebook.execution.run_registry import find, forget, runs, unlisted
from pllm_notebook.execution.run_summary import live_lines, recorded_lines, shown
from pllm_notebook.execution.run_view.counts_model import CountsModel
from pllm_notebook.execution.run_view.failure_groups import retry_advice, retry_price
from pllm_notebook.execution.run_view.field_charts import FieldCharts
from pllm_notebook.execution.run_view.sample_row import row_name
from pllm_notebook.execution.run_view.updates import RunViewUpdates
from pllm_notebook.execution.run_view.view_model import RunViewModel, view_model
from pllm_notebook.execution.run_window import RunWindow
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.steps import RunWait, Steps, awaiting, blocking
from pllm_notebook.execution.token_bounds import TokenBounds
from pllm_notebook.execution.token_question import options_by_path
from pllm_notebook.execution.user_code import user_threads
from pllm_notebook.execution.window_progress import RunSum, StepsDisplay, WindowProgress

__all__ = [
    "KEY_VERSION",
    "OUTPUT_LIMIT",
    "SKIPPED",
    "STATUSES",
    "UNPLANNED",
    "CallSpec",
    "Confirm",
    "ContextFailed",
    "Contexts",
    "ContextualRows",
    "CountsModel",
    "Decider",
    "DerivedRows",
    "EncodedPrompt",
    "Estimate",
    "Execution",
    "Explanation",
    "FieldCharts",
    "JudgedRows",
    "LiveRun",
    "Outcome",
    "Part",
    "RecordableRows",
    "ReplyParser",
    "RequestLines",
    "ResultTable",
    "RowRecord",
    "RowSource",
    "Rows",
    "Run",
    "RunBudget",
    "RunProgress",
    "RunServices",
    "RunSum",
    "RunViewModel",
    "RunViewUpdates",
    "RunWait",
    "RunWindow",
    "SampleRecord",
    "SecondRecord",
    "Steps",
    "StepsDisplay",
    "TokenBounds",
    "UnreadReply",
    "WholePrompts",
    "WindowProgress",
    "awaiting",
    "batch_service",
    "blocking",
    "build_spec",
    "confirm",
    "confirm_price",
    "decision_target",
    "decoded_body",
    "estimate_list",
    "estimate_rows",
    "estimated_cost_usd",
    "find",
    "forget",
    "format_estimate",
    "full_message",
    "handle_of",
    "instruction_for",
    "is_retryable",
    "key_prefixes",
    "kind_number",
    "live_lines",
    "live_of",
    "look_after_jobs",
    "options_by_path",
    "options_for",
    "parts_of",
    "position_of",
    "record_of_calls",
    "record_of_prompts",
    "recorded_lines",
    "register_display",
    "request_lines",
    "resolve_model",
    "retry_advice",
    "retry_price",
    "row_name",
    "runs",
    "services_for",
    "shown",
    "shown_examples",
    "start",
    "start_list",
    "start_simulator",
    "store_for",
    "unlisted",
    "user_threads",
    "view_model",
]
