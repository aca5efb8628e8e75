"""The options of a run. An option is declared as a field with its default, bounds and description.

To add an option, add a field to the class of its subject: question, examples, generation, answers or limits. The
validation, docs/options.md, the magic's `--help`, environment variables, signatures and the types of `**options` are
derived from that field.
"""

from pllm_notebook.options.example_options import STORED_LABELS
from pllm_notebook.options.option_fields import (
    CHECKS,
    OptionField,
    check,
    check_row_count,
    check_with,
    fields_of,
    from_environment,
    is_finite,
    is_number,
    is_unicode,
    one_of,
    option,
    plain,
    refuse_unread,
    taken_by,
    unread,
)
from pllm_notebook.options.option_types import (
    CallOptions,
    CallToolsOptions,
    CompleteOptions,
    ConfigureOptions,
    DecideOptions,
    FrameworkOptions,
    ImproveOptions,
    ParseOptions,
    PromptListOptions,
    RaceOptions,
    RecheckOptions,
    RequestOptions,
)
from pllm_notebook.options.run_options import CacheUse, Effort, Mode, Options, ServiceTier, Voting, given_options

__all__ = [
    "CHECKS",
    "STORED_LABELS",
    "CacheUse",
    "CallOptions",
    "CallToolsOptions",
    "CompleteOptions",
    "ConfigureOptions",
    "DecideOptions",
    "Effort",
    "FrameworkOptions",
    "ImproveOptions",
    "Mode",
    "OptionField",
    "Options",
    "ParseOptions",
    "PromptListOptions",
    "RaceOptions",
    "RecheckOptions",
    "RequestOptions",
    "ServiceTier",
    "Voting",
    "check",
    "check_row_count",
    "check_with",
    "fields_of",
    "from_environment",
    "given_options",
    "is_finite",
    "is_number",
    "is_unicode",
    "one_of",
    "option",
    "plain",
    "refuse_unread",
    "taken_by",
    "unread",
]
