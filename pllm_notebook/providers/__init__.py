"""Providers: pure translations over the official SDKs, which are imported on first use."""

from pllm_notebook.providers.batch.jsonl import file_lines
from pllm_notebook.providers.bodies import objects_at, schema_instruction
from pllm_notebook.providers.deciding import decision_model
from pllm_notebook.providers.decoding import decoded, loaded
from pllm_notebook.providers.keywords import (
    CARRIED,
    NOT_CARRIED,
    OpenAIKeywords,
    check_keywords,
    is_given,
    provider_fields,
)
from pllm_notebook.providers.model_options import default_effort, generation_fields
from pllm_notebook.providers.prompt_cache import BYTES_PER_TOKEN, LEAST_LEAD, LIFETIME_S, kept_for_an_hour
from pllm_notebook.providers.provider import BatchFormat, JsonLines, Provider
from pllm_notebook.providers.registry import (
    COMPATIBLE,
    canonical,
    cheap_model_of,
    is_hosted,
    largest_file_for,
    provider_of,
    providers,
    register,
    speaker_of,
    token_formats,
    wires,
)
from pllm_notebook.providers.registry import names as provider_names
from pllm_notebook.providers.replaced_transport import transports_replaced
from pllm_notebook.providers.resolved_model import ResolvedModel, digest_of
from pllm_notebook.providers.resolving import check_accounts, resolve
from pllm_notebook.providers.schema_levels import SchemaLevel
from pllm_notebook.providers.token_probabilities import OTHER_WAYS, TokenFormat, compacted, value_steps

__all__ = [
    "BYTES_PER_TOKEN",
    "CARRIED",
    "COMPATIBLE",
    "LEAST_LEAD",
    "LIFETIME_S",
    "NOT_CARRIED",
    "OTHER_WAYS",
    "BatchFormat",
    "JsonLines",
    "OpenAIKeywords",
    "Provider",
    "ResolvedModel",
    "SchemaLevel",
    "TokenFormat",
    "canonical",
    "cheap_model_of",
    "check_accounts",
    "check_keywords",
    "compacted",
    "decision_model",
    "decoded",
    "default_effort",
    "digest_of",
    "file_lines",
    "generation_fields",
    "is_given",
    "is_hosted",
    "kept_for_an_hour",
    "largest_file_for",
    "loaded",
    "objects_at",
    "provider_fields",
    "provider_names",
    "provider_of",
    "providers",
    "register",
    "resolve",
    "schema_instruction",
    "speaker_of",
    "token_formats",
    "transports_replaced",
    "value_steps",
    "wires",
]
