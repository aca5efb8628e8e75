"""Every type that Pydantic offers and whose values a schema can describe has simulated answers that are valid."""

from __future__ import annotations

import datetime as dt
import ipaddress
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from re import Pattern
from typing import Annotated, Any

import orjson
import pydantic
import pytest
from annotated_types import Len, MultipleOf
from pydantic import Field, StringConstraints

from pllm_notebook.providers import providers
from pllm_notebook.schema import GRAMMAR, OutputType
from pllm_notebook.sim.draws import Draws
from pllm_notebook.sim.values import compile_schema

# Left out are those whose schemas do not say what their values must be: a path that exists, an object that can be
# imported, a day that is yet to come (unlike any other day), a moment without a time zone (unlike one with it), an
# address with a scheme of its own (unlike any other address), text that is JSON or a
# complex number.
_NAMES = [
    "AnyHttpUrl",
    "AnyUrl",
    "AwareDatetime",
    "Base64Bytes",
    "Base64Str",
    "Base64UrlBytes",
    "Base64UrlStr",
    "ByteSize",
    "EmailStr",
    "FiniteFloat",
    "HttpUrl",
    "IPvAnyAddress",
    "IPvAnyInterface",
    "IPvAnyNetwork",
    "NameEmail",
    "NegativeFloat",
    "NegativeInt",
    "NewPath",
    "NonNegativeFloat",
    "NonNegativeInt",
    "NonPositiveFloat",
    "NonPositiveInt",
    "PastDate",
    "PastDatetime",
    "PositiveFloat",
    "PositiveInt",
    "StrictBool",
    "StrictFloat",
    "StrictInt",
    "StrictStr",
    "UUID1",
    "UUID3",
    "UUID4",
    "UUID5",
    "UUID6",
    "UUID7",
    "UUID8",
]
_STANDARD: dict[str, Any] = {
    "bytes": bytes,
    "date": dt.date,
    "datetime": dt.datetime,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "UUID": uuid.UUID,
    "Path": Path,
    "PurePosixPath": PurePosixPath,
    "Pattern": Pattern,
    "IPv4Address": ipaddress.IPv4Address,
    "IPv6Address": ipaddress.IPv6Address,
    "IPv4Interface": ipaddress.IPv4Interface,
    "IPv6Interface": ipaddress.IPv6Interface,
    "IPv4Network": ipaddress.IPv4Network,
    "IPv6Network": ipaddress.IPv6Network,
    "frozenset": frozenset[int],
    "tuple": tuple[int, str, bool],
    "three words": Annotated[list[str], Len(3, 3)],
    "price": Annotated[Decimal, Field(max_digits=5, decimal_places=1)],
    "positive price": Annotated[Decimal, Field(gt=0, decimal_places=2)],
    "plate": Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}-\d{3}$")],
    "shout": Annotated[str, StringConstraints(to_upper=True, min_length=3, max_length=5)],
    "sevens": Annotated[int, MultipleOf(7), Field(ge=10, lt=50)],
    "steps": Annotated[float, Field(multiple_of=0.25, gt=0, le=2)],
    "fourth": Annotated[uuid.UUID, Field(description="the id")] | None,
    "counts": dict[Annotated[str, StringConstraints(pattern="^[a-z]+$")], pydantic.PositiveInt],
}
_TYPES = {name: getattr(pydantic, name) for name in _NAMES if hasattr(pydantic, name)} | _STANDARD
_DIALECTS = {GRAMMAR.name: GRAMMAR} | {one.dialect.name: one.dialect for one in providers()}


@pytest.mark.parametrize("kind", _TYPES.values(), ids=list(_TYPES))
def test_simulated_values_are_valid_for_every_provider(kind: Any) -> None:
    for dialect in _DIALECTS.values():
        fitted = OutputType.of(kind).fit(dialect)
        make = compile_schema(fitted.schema)
        texts = [orjson.dumps(make(Draws(b"%d" % number), 0)) for number in range(20)]

        failures = [(text, found.failure) for text in texts if (found := fitted.parse(text)).failure is not None]

        assert not failures, dialect.name
