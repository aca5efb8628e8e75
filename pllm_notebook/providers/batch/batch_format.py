"""What the request files of a batch API are made of, known with nothing opened."""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.providers.provider import BatchSupport
from pllm_notebook.records import BatchLimits

__all__ = ["BatchFormat"]


@dataclass(frozen=True, slots=True)
class BatchFormat:
    """One endpoint's request files.

    Attributes:
        batch: The batch API.
        path: The wire's.
        client_names: Of the class of a caller's own client (see `sdk_transport.class_names`).
    """

    batch: BatchSupport
    path: str
    client_names: frozenset[str] = frozenset()

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line (see `BatchAPI.line`)."""
        return self.batch.line(self.path, self.client_names, custom_id, body)

    @property
    def limits(self) -> BatchLimits:
        """What one job may hold."""
        return self.batch.api.limits
