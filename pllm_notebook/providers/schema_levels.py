"""How much help with structured output a server gives, learned for each schema.

A server may take one type's schema and not another's: a grammar that is too large, a keyword that it does not know, a
form that its model does not keep to. So a schema that fails steps down alone. Where several fail and none was ever
followed, the server does no such thing, and new schemas begin where these are.
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
# A server that enforces a schema writes something else at times, and one that does not hardly ever follows it.
_FOLLOWED_PER_ODD = 20
# Schemas that must fail before the server is taken to do none.
_SEVERAL = 2


class SchemaLevel:
    """What is known of one schema at one model.

    Attributes:
        level: How much help the server gives with it: see `Wire.relax_schema`.
        followed: Replies on that level that had the form of the schema. Threads may lose a few.
        odd: Replies on that level that had not.
    """

    __slots__ = ("followed", "level", "odd")

    def __init__(self, level: int = 0) -> None:
        self.level = level
        self.followed = self.odd = 0

    def __repr__(self) -> str:
        return f"SchemaLevel({self.level}, {self.followed} followed, {self.odd} odd)"

    @property
    def is_mostly_odd(self) -> bool:
        """Whether not nearly all replies on the level had the form of the schema."""
        return self.odd * _FOLLOWED_PER_ODD > self.followed


class SchemaLevels:
    """What is known of the schemas at one model.

    Attributes:
        floor: The level at which schemas begin that the model has not been sent before.
    """

    def __init__(self) -> None:
        self.floor = 0
        self._known: dict[bytes, SchemaLevel] = {}
        self._takes_any_object = True
        self._has_learned = False
        # By level: the schemas that have failed there, and whether any was followed.
        self._failed: defaultdict[int, set[int]] = defaultdict(set)
        self._followed: set[int] = set()

    def __repr__(self) -> str:
        return f"SchemaLevels(floor={self.floor}, {len(self._known)} known)"

    def of(self, body: Mapping[str, Any]) -> SchemaLevel:
        """Return what is known of the schema in a canonical body; bodies without one share theirs."""
        return self._known.setdefault(_digest(body), SchemaLevel(self.floor))

    def level_for(self, body: Mapping[str, Any]) -> int:
        """Return the level at which a canonical body is sent."""
        if not (self._has_learned or self.floor):
            return 0  # which is the rule
        known = self._known.get(_digest(body))
        level = self.floor if known is None else max(known.level, self.floor)
        if self._takes_any_object:
            return level
        # Level 1 asks for any object; so does a caller's own body, which asks for nothing from level 2 on.
        return LAST_LEVEL if level == 1 or asks_any_object(body) else level

    def follow(self, schema: SchemaLevel) -> None:
        """Count a reply that had the form of a schema."""
        schema.followed += 1
        self._followed.add(schema.level)

    def step_down(self, schema: SchemaLevel, sent_level: int, *, is_too_complex: bool = False) -> bool | None:
        """Ask with less enforcement for a schema from now on.

        Many calls may fail at one level at once; only the first takes the step.

        Args:
            schema: Of the call that failed.
            sent_level: The level on which it was sent.
            is_too_complex: Whether it failed for its own size, which says nothing of other schemas.

        Returns:
            True for a step, None where another call has taken it, False at the last level.
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
        """Note that the server takes no request for any object; return whether that is new."""
        is_new, self._takes_any_object, self._has_learned = self._takes_any_object, False, True
        self.floor = LAST_LEVEL if self.floor == 1 else self.floor
        for schema in self._known.values():
            if schema.level == 1:
                schema.level = LAST_LEVEL
        return is_new


def schema_in(body: Mapping[str, Any]) -> Any:
    """Return the schema that a body asks a provider to enforce, None for none."""
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
    """Return whether a body asks for JSON of any shape."""
    return object_at(body, "response_format").get("type") == "json_object" or (
        "responseMimeType" in object_at(body, "generationConfig") and schema_in(body) is None
    )


def _digest(body: Mapping[str, Any]) -> bytes:
    schema = schema_in(body)
    return b"" if schema is None else blake2b(orjson.dumps(schema), digest_size=16).digest()
