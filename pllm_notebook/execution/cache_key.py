"""The key of a call: what determines its answer, and nothing else.

The key is the base64url-encoded SHA-256 of JSON with a version, the provider's name (with the host if it is not the
provider's own), the logical endpoint, the sample index, the salt, the intended body without transport fields and
output limit, and, if rows share the call, their maximum number, since the other rows of a pack influence an answer.

A list names the fields that cannot matter. An unknown field is therefore part of the key: it may cause a cache miss,
which is paid for once, and never a wrong answer. The order of fields in the body counts: the order of a schema's
fields changes what a model writes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.execution.token_bounds import OUTPUT_LIMIT
from pllm_notebook.settings import current

__all__ = ["KEY_VERSION", "OUTPUT_LIMIT", "PLACEHOLDER", "BodyTemplate", "CacheKey", "key_of", "simulated_salt"]

KEY_VERSION = 1

# Replaces the row's text in a body that is encoded once for all rows.
PLACEHOLDER = "\x00pllm row\x00"
_PLACEHOLDER_JSON = orjson.dumps(PLACEHOLDER)

_TRANSPORT = frozenset(
    {
        "cache_control",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "serviceTier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)


class BodyTemplate:
    """A body encoded once, in two parts *before* and *after* each row's text, which is a JSON string."""

    __slots__ = ("after", "before")

    def __init__(self, body: Mapping[str, Any]) -> None:
        encoded = orjson.dumps(body)
        self.before, hole, self.after = encoded.partition(_PLACEHOLDER_JSON)
        if not hole or _PLACEHOLDER_JSON in self.after:
            raise ValueError("a body must hold the row's text exactly once")

    @classmethod
    def alone(cls, body: Mapping[str, Any]) -> BodyTemplate | None:
        """Encode a body; None if the placeholder is only part of a string."""
        return cls(body) if _PLACEHOLDER_JSON in orjson.dumps(body) else None


class CacheKey:
    """Compute the keys of one run's rows from a prefix that is hashed once.

    Args:
        provider: As in `ResolvedModel.identity`.
        path: As in `ResolvedModel.path`.
        body: The intended body with `PLACEHOLDER` for the row's text.
        salt: The caller's salt.
        sample: Index of the sample; 0 is the plain call.
        pack: Maximum number of rows that share a call, None for one row per call.
    """

    def __init__(
        self,
        provider: str,
        path: str,
        body: Mapping[str, Any],
        salt: str,
        sample: int = 0,
        pack: int | None = None,
    ) -> None:
        parts = BodyTemplate(_envelope(provider, path, body, salt, sample, pack))
        self._before = hashlib.sha256(parts.before)
        self._after = parts.after

    def key(self, text_json: bytes) -> str:
        """Return the key of the row whose text is *text_json*, a JSON string."""
        digest = self._before.copy()
        digest.update(text_json)
        digest.update(self._after)
        return _encode(digest.digest())


def key_of(
    provider: str, path: str, body: Mapping[str, Any], salt: str, sample: int = 0, pack: int | None = None
) -> str:
    """Return the key of one whole body, equal to its key by `CacheKey`."""
    return _encode(hashlib.sha256(orjson.dumps(_envelope(provider, path, body, salt, sample, pack))).digest())


def simulated_salt() -> str:
    """Return an addition to the salt for a simulator with custom settings, since its answers differ; otherwise ""."""
    chosen = current().sim
    if not chosen:
        return ""
    from pllm_notebook.sim import identity

    own = identity(chosen)
    return f"\0sim {own}" if own else ""


def _envelope(
    provider: str, path: str, body: Mapping[str, Any], salt: str, sample: int, pack: int | None
) -> dict[str, Any]:
    without = _TRANSPORT | OUTPUT_LIMIT
    kept = {name: value for name, value in body.items() if name not in without}
    if "generationConfig" in kept:  # Google keeps its limit one level down
        config = {name: value for name, value in kept["generationConfig"].items() if name not in without}
        kept["generationConfig"] = config
        if not config:
            del kept["generationConfig"]
    envelope = {"v": KEY_VERSION, "provider": provider, "path": path, "sample": sample, "salt": salt}
    if pack is not None:
        envelope["pack"] = pack
    # The body comes last, so that all rows share the longest prefix.
    return envelope | {"body": kept}


def _encode(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
