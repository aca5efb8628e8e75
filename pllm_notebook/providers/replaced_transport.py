"""One transport in place of every model's own, for tests of a caller's pipeline without key, SDK or network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pllm_notebook.protocols import Transport
from pllm_notebook.providers.resolved_model import ResolvedModel
from pllm_notebook.runtime import Slot

__all__ = ["replaced", "transports_replaced"]

_Replacement = tuple[int, bool, Callable[[ResolvedModel], Transport]]

_REPLACEMENTS: Slot[list[_Replacement]] = Slot("transports in place of the models'", list)
_NUMBERS: Slot[Iterator[int]] = Slot("numbers of replaced transports", lambda: itertools.count(1))


@contextmanager
def transports_replaced(open_transport: Callable[[ResolvedModel], Transport], *, keyless: bool) -> Iterator[None]:
    """Replace the transport of every model that is resolved within the block. The innermost block applies.

    Args:
        open_transport: Opens the transport from the resolved model, whose own `connect` it may call.
        keyless: Whether no model needs a key or an SDK.
    """
    # The number makes a new dispatcher, so that none of an earlier block is used again with its open connection.
    replacement = (next(_NUMBERS.value), keyless, open_transport)
    _REPLACEMENTS.value.append(replacement)
    try:
        yield
    finally:
        _REPLACEMENTS.value.remove(replacement)


def replaced(model: ResolvedModel) -> ResolvedModel:
    """Return *model* with the transport of the innermost block, or unchanged outside any block."""
    if not _REPLACEMENTS.value:
        return model
    number, keyless, open_transport = _REPLACEMENTS.value[-1]
    return replace(
        model,
        replacement=open_transport,
        opener=f"{model.opener}#{number}",
        missing_key=None if keyless else model.missing_key,
        imports=() if keyless else model.imports,
        open_batch=None,
        batch_format=None,
        no_batch_reason="Answers are scripted or recorded here, and there are no batch jobs: use mode='async', or "
        "the simulator's ('sim:openai').",
    )
