"""Failures for error responses: one table for all providers."""

from __future__ import annotations

import datetime as dt
import email.utils
import functools
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.providers.connections import place_of
from pllm_notebook.redaction import redact
from pllm_notebook.types import RawReply, Usage

__all__ = ["beginning", "body_of", "failure", "number", "retry_after_s", "seconds", "unexplained"]

_BY_STATUS = {
    400: FailureKind.BAD_REQUEST,
    401: FailureKind.AUTHENTICATION,
    402: FailureKind.QUOTA,
    403: FailureKind.PERMISSION,
    404: FailureKind.UNKNOWN_MODEL,
    408: FailureKind.TIMEOUT,
    409: FailureKind.SERVER,
    413: FailureKind.BAD_REQUEST,
    422: FailureKind.BAD_REQUEST,
    421: FailureKind.SERVER,
    423: FailureKind.SERVER,
    424: FailureKind.SERVER,
    425: FailureKind.SERVER,
    429: FailureKind.RATE_LIMIT,
    503: FailureKind.OVERLOADED,
    529: FailureKind.OVERLOADED,
}
# The other client errors that HTTP defines. An undefined status (498, 499, 520) is a gateway's own and temporary.
_DEFINED = frozenset({405, 406, 407, 410, 411, 412, 414, 415, 416, 417, 418, 426, 428, 431, 451})

# Messages about an account, a model or a key that arrive with a misleading status.
_NO_CREDIT = re.compile(
    r"credit balance|(insufficient|not enough|no remaining|out of|run out of)[\w\s]{0,20}(credit|balance|funds|quota)"
    r"|(credit|balance|funds)s?\b[\w\s]{0,20}(too low|insufficient|exhausted|depleted|used up)"
    r"|insufficient_quota|billing_(hard_limit|not_active)|payment required|purchase (more )?credits",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"invalid model( name| id)?\b|not a valid model|unknown model\b|no such model|model[_ ]not[_ ](found|exist)"
    r"|\bmodel\b[^.]{0,80}\b(does not exist|not found|is not (available|supported))",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"(api[ _-]?key|token)\b[^.]{0,40}\b(not valid|invalid|expired)|(invalid|incorrect) api[ _-]?key", re.IGNORECASE
)
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_PAGE = re.compile(r"\s{0,100}<(!doctype html|html|head|body)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^<>]{0,100}>([^<]{0,200})", re.IGNORECASE)
# Maximum characters read of a time or number in a header; a longer reset time is ignored.
_LONGEST_WORD = 64
# Maximum characters of a message before redaction; a failure keeps half as many.
_MOST_MESSAGE = 4_000
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def failure(
    raw: RawReply,
    message: str,
    *,
    kind: FailureKind | None = None,
    field: str = "",
    request_id: str = "",
    retry_after: float | None = None,
    usage: Usage | None = None,
) -> Failure:
    """Return the failure for an error response. Its texts are redacted.

    Args:
        raw: The response.
        message: The provider's error message, "" to use the body's text. Replaced for a redirect.
        kind: None to determine it from the status and the message. Replaced for a redirect.
        field: The request field that the error names, "" for none.
        request_id: The provider's id of the request, "" for none.
        retry_after: Seconds until the request may be sent again; None to read them from the headers.
        usage: The tokens that the response reports, None for none.
    """
    text = beginning(raw)
    if 300 <= raw.status < 400:
        # The body is the redirecting server's and says less than our message.
        kind, message = FailureKind.REJECTED, _redirected(raw)
    if kind is None:
        kind = _kind_of(raw.status, message or text)
    return Failure(
        kind=kind,
        message=strip_control_chars(redact(message[:_MOST_MESSAGE])).strip()
        or f"HTTP {raw.status}: {page_words(text)}",
        status=raw.status,
        raw=text,
        request_id=request_id,
        retry_after_s=retry_after_s(raw.headers) if retry_after is None else retry_after,
        field=field,
        usage=usage,
    )


def _kind_of(status: int, said: str) -> FailureKind:
    """Return the kind of an error by its status and message: a status alone can mislead."""
    defined = status in _DEFINED
    kind = _BY_STATUS.get(status) or (FailureKind.BAD_REQUEST if defined else FailureKind.SERVER)
    said = said[:1000]
    if kind in (FailureKind.BAD_REQUEST, FailureKind.PERMISSION, FailureKind.RATE_LIMIT) and _NO_CREDIT.search(said):
        return FailureKind.QUOTA
    if kind in (FailureKind.BAD_REQUEST, FailureKind.PERMISSION):
        if _NO_MODEL.search(said):
            return FailureKind.UNKNOWN_MODEL
        if _NO_KEY.search(said):
            return FailureKind.AUTHENTICATION
    return kind


def _redirected(raw: RawReply) -> str:
    place = place_of(raw.headers.get("location", ""))
    return (
        f"HTTP {raw.status}: the address redirects to {place}. A redirect is not followed, since the key and the rows "
        f"would go along; if you trust that address, set it as the server's."
    )


def unexplained(raw: RawReply) -> Failure:
    """Return the failure for a response of which only the status can be interpreted."""
    return failure(RawReply(raw.status, {}, raw.body), "")


def page_words(text: str) -> str:
    """Describe a web page by its title; return other text unchanged."""
    if not _PAGE.match(text):
        return text
    title = _TITLE.search(text)
    words = " ".join(title[1].split()) if title else ""
    return f"a web page, titled {words!r}" if words else "a web page"


def beginning(raw: RawReply) -> str:
    """Return the first 500 characters of a body, redacted: providers and proxies quote the key they were sent."""
    # Cut only after redaction, which would not recognise half a key.
    return redact(raw.body[:4000].decode("utf-8", "replace"))[:500]


def body_of(raw: RawReply) -> dict[str, Any]:
    """Decode a body that should be a JSON object; return {} for anything else."""
    try:
        decoded = orjson.loads(raw.body)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `retry-after-ms`, or else in `retry-after` (a number or an HTTP date); None for neither."""
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    wait = number(text)
    if wait is None and text:
        # Relative to the provider's clock if it sends the time: this machine's may be an hour off.
        until, now = _date(text), _date(headers.get("date"))
        wait = None if until is None else until - (time.time() if now is None else now)
    return None if wait is None else max(0.0, wait)


def _date(text: str | None) -> float | None:
    """Return an HTTP date in seconds since 1970, None if there is no valid one."""
    try:
        return email.utils.parsedate_to_datetime(text[:_LONGEST_WORD]).timestamp() if text else None
    except (ValueError, OverflowError, TypeError, IndexError):  # an impossible year
        return None


def seconds(text: str | None) -> float | None:
    """Return the seconds until a reset, read from a Go duration (`6m0s`, `12ms`), seconds or an RFC 3339 time.

    None for anything else.
    """
    if not text or len(text) > _LONGEST_WORD:
        return None
    span, moment = _time(text)
    return span if moment is None else max(0.0, moment - time.time())


# Cached, since every reply has two of these and they are often the same as before: times have a resolution of 1 s.
@functools.lru_cache(maxsize=512)
def _time(text: str) -> tuple[float | None, float | None]:
    """Return a duration in seconds and a time in seconds since 1970, of which at least one is None."""
    if text[4:5] == "-":
        try:
            return None, dt.datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            return None, None
    parts = _GO_DURATION.findall(text)
    if parts and "".join(a + b for a, b in parts) == text:
        return sum(float(amount) * _GO_UNITS[unit] for amount, unit in parts), None
    return number(text), None


def number(text: str | None) -> float | None:
    """Read a number that is not negative; None for anything else (Azure sends -1 for "not known")."""
    try:
        value = float(text[:_LONGEST_WORD]) if text else -1.0
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
