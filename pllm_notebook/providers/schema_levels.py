"""Levels of structured output that a server supports, learned for each schema.

A server may support one schema but not another: its grammar may be too large, a keyword unknown, or the model may not
follow it. So each schema steps down separately. If several schemas fail at a level and none was ever followed there,
the server does not support that level, and new schemas start below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from pllm_notebook.providers.bodies import object_at

__all__ = ["LAST_LEVEL", "SchemaLevel", "SchemaLevels", "asks_any_object", "schema_in"]

LAST_LEVEL = 2
# A server that enforces a schema seldom deviates from it; one that does not enforce it hardly ever follows it.
_FOLLOWED_PER_ODD = 20
# Number of schemas that must fail at a level before the server counts as not supporting it.
_SEVERAL = 2


class SchemaLevel:
    """What has been learned about one schema at one model.

    Attributes:
        level: The level at which it is requested (see `Wire.relax_schema`).
        followed: Number of replies at that level that had the form of the schema. A race between threads may lose
            a few.
        odd: Number of replies at that level that did not have it.
    """

    __slots__ = ("followed", "level", "odd")

    def __init__(self, level: int = 0) -> None:
        self.level = level
        self.followed = self.odd = 0

    def __repr__(self) -> str:
        return f"SchemaLevel({self.level}, {self.followed} followed, {self.odd} odd)"

    @property
    def is_mostly_odd(self) -> bool:
        """Whether fewer than about 95 % of the replies at this level had the form of the schema."""
        return self.odd * _FOLLOWED_PER_ODD > self.followed


class SchemaLevels:
    """What has been learned about all schemas at one model.

    Attributes:
        floor: The level at which a schema starts that the model has not been sent before.
    """

    def __init__(self) -> None:
        self.floor = 0
        self._known: dict[bytes, SchemaLevel] = {}
        self._takes_any_object = True
        self._has_learned = False
        # The schemas that have failed at each level, and the levels at which one was followed.
        self._failed: defaultdict[int, set[int]] = defaultdict(set)
        self._followed: set[int] = set()

    def __repr__(self) -> str:
        return f"SchemaLevels(floor={self.floor}, {len(self._known)} known)"

    def of(self, body: Mapping[str, Any]) -> SchemaLevel:
        """Return what is known about the schema in a canonical body; all bodies without a schema share one entry."""
        return self._known.setdefault(_digest(body), SchemaLevel(self.floor))

    def level_for(self, body: Mapping[str, Any]) -> int:
        """Return the level at which to send a canonical body."""
        if not (self._has_learned or self.floor):
            return 0  # the usual case
        known = self._known.get(_digest(body))
        level = self.floor if known is None else max(known.level, self.floor)
        if self._takes_any_object:
            return level
        # Level 1 requests any JSON object. So may a caller's own body; level 2 removes that request.
        return LAST_LEVEL if level == 1 or asks_any_object(body) else level

    def follow(self, schema: SchemaLevel) -> None:
        """Count a reply that had the form of a schema."""
        schema.followed += 1
        self._followed.add(schema.level)

    def step_down(self, schema: SchemaLevel, sent_level: int, *, is_too_complex: bool = False) -> bool | None:
        """Request a schema with less enforcement from now on.

        Many calls may fail at one level at the same time; only the first one takes the step.

        Args:
            schema: The schema of the failed call.
            sent_level: The level at which the call was sent.
            is_too_complex: Whether the schema itself was too large, which says nothing about other schemas.

        Returns:
            True if the level changed, None if another call had already changed it, False at the last level.
        """
        if sent_level < schema.level:
            return None
        if schema.level >= LAST_LEVEL:
            return False
        left, self._has_learned = schema.level, True
        schema.level = left + 1 if self._takes_any_object else LAST_LEVEL
        schema.followed = schema.odd = 0
        if not is_too_complex:
            failed = self._failed[left]
            failed.add(id(schema))
            if len(failed) >= _SEVERAL and left not in self._followed:
                self.floor = max(self.floor, schema.level)
        return True

    def refuse_any_object(self) -> bool:
        """Note that the server rejects requests for any JSON object; return whether that is new."""
        is_new, self._takes_any_object, self._has_learned = self._takes_any_object, False, True
        self.floor = LAST_LEVEL if self.floor == 1 else self.floor
        for schema in self._known.values():
            if schema.level == 1:
                schema.level = LAST_LEVEL
        return is_new


def schema_in(body: Mapping[str, Any]) -> Any:
    """Return the schema that a body asks the provider to enforce, None if there is none."""
    places = (
        object_at(object_at(body, "response_format"), "json_schema"),
        object_at(object_at(body, "text"), "format"),
        object_at(object_at(body, "output_config"), "format"),
    )
    for place in places:
        if place.get("schema") is not None:
            return place["schema"]
    return object_at(body, "generationConfig").get("responseJsonSchema")


def asks_any_object(body: Mapping[str, Any]) -> bool:
    """Return whether a body requests JSON of any shape."""
    return object_at(body, "response_format").get("type") == "json_object" or (
        "responseMimeType" in object_at(body, "generationConfig") and schema_in(body) is None
    )


def _digest(body: Mapping[str, Any]) -> bytes:
    schema = schema_in(body)
    return b"" if schema is None else blake2b(orjson.dumps(schema), digest_size=16).digest()
