"""Which answers and failures a model's name means, as `pllm.cache.clear` and `pllm.errors` take one."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.formatting import strip_control_chars

__all__ = ["ModelFilter", "asked_model", "same_model"]

# A date or a serial number, as providers end the names they answer in: -2026-08-01, -20260801, @20260801, -001.
_VERSION = re.compile(r"([-@](\d{3,4}|\d{8}|\d{4}-\d\d-\d\d))?")
_SIMULATED = "sim:"
_NAMED = 10


class ModelFilter:
    """Picks what is of one model, and knows the models that it was shown.

    Args:
        model: As `same_model` takes it, None for every model.
        unchanged: The end of an error's message: what was not done.

    Attributes:
        known: Model to number of entries looked at.
        matched: How many of them are of the model.

    Raises:
        UsageError: If *model* names no model.
    """

    def __init__(self, model: str | None, unchanged: str) -> None:
        if model is not None and not (isinstance(model, str) and model.rpartition(":")[2].strip()):
            raise UsageError(
                f"model= is a model's name, such as 'openai:gpt-6-luna' or 'gpt-6-luna', not {model!r}. {unchanged}"
            )
        self._model = model
        self.known: Counter[str] = Counter()
        self.matched = 0

    def takes(self, name: str) -> bool:
        """Return whether an entry whose model is *name* is of the model."""
        self.known[name] += 1
        found = self._model is None or same_model(name, self._model)
        self.matched += found
        return found

    def warn_unless_matched(self, place: str) -> None:
        """Warn where nothing in *place* was of the model: a name that is wrong would pass for nothing to do."""
        if self._model is None or self.matched:
            return
        names = [strip_control_chars(name) for name, _ in self.known.most_common()]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        there = f"There are {', '.join(names[:_NAMED])}{more}." if names else "It holds no answers."
        near = guess(self._model, names)
        warnings.warn(f"Nothing in {place} is of the model {self._model!r}, so nothing was deleted.{near} {there}",
                      stacklevel=caller_stack_level())  # fmt: skip


def asked_model(metadata: Mapping[str, Any]) -> str:
    """Return the model that a call named, where the run wrote it down; else what the provider calls it."""
    return str(metadata.get("asked") or metadata.get("model") or "unknown")


def same_model(kept: str, wanted: str) -> bool:
    """Compare `provider:name` with `provider:name`, and by the name alone where one of them has no provider.

    `sim:openai` is every model that is simulated as OpenAI's.
    """
    if wanted.startswith(_SIMULATED) and kept.startswith(f"{wanted}/"):
        return True
    kept_provider, _, kept_name = kept.rpartition(":")
    provider, _, name = wanted.rpartition(":")
    if provider and kept_provider and provider != kept_provider:
        return False
    # gpt-6 includes gpt-6-2026-08-01, but not gpt-6-luna or gpt-6-1, which are other models.
    return kept_name.startswith(name) and _VERSION.fullmatch(kept_name[len(name) :]) is not None
