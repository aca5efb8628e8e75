"""Providers: pure translations over the official SDKs, which are imported on first use."""

from pllm_notebook.providers.provider import Provider
from pllm_notebook.providers.registry import register
from pllm_notebook.providers.resolved_model import ResolvedModel
from pllm_notebook.providers.resolving import resolve

__all__ = ["Provider", "ResolvedModel", "register", "resolve"]
