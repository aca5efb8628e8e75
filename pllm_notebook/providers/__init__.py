"""Models and their wire formats: thin, pure translations over the official SDKs, imported when used."""

from pllm_notebook.providers.registry import PROVIDERS, resolve
from pllm_notebook.providers.resolved_model import ResolvedModel

__all__ = ["PROVIDERS", "ResolvedModel", "resolve"]
