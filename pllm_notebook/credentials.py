"""API keys and passwords, stored so that displays of objects do not reveal them.

Tracebacks with local variables, `vars()`, saved notebooks and pickles show the attributes of an object. A key is
therefore held by a function's closure, and read only once: as the argument of an SDK's client.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

from pllm_notebook.exceptions import UsageError
from pllm_notebook.redaction import add_secret

__all__ = ["Address", "Key", "redact_header"]


def redact_header(value: str) -> None:
    """Redact a header's value from all texts: as a whole, without its scheme, and the password of a login."""
    add_secret(value)
    scheme, _, bare = value.strip().partition(" ")
    add_secret(bare)
    if scheme.lower() == "basic":
        with suppress(ValueError):
            add_secret(base64.b64decode(bare, validate=True).decode("utf-8", "replace").partition(":")[2])


class Key:
    """An API key or password, whose value is not in its representation, attributes or copies.

    Once created, it is also redacted from messages, logs and stored failures (see `redaction.add_secret`).

    Args:
        value: The key. Surrounding white space, such as a file's final newline, is removed.
    """

    __slots__ = ("reveal",)

    reveal: Callable[[], str]
    """Returns the value. Only for an SDK's client."""

    def __init__(self, value: str) -> None:
        bare = value.strip()
        add_secret(bare)
        self.reveal = lambda: bare

    def __repr__(self) -> str:
        return "<key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled or copied; each process reads it from its own environment.")

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def fingerprint(self, address: Address) -> str:
        """Return a fingerprint of the account at *address*, from which the key cannot be recovered."""
        login = "" if address.login is None else f"\n{address.login.reveal()}"
        return hashlib.sha256(f"{address}\n{self.reveal()}{login}".encode()).hexdigest()[:12]

    def check(self, where: str) -> None:
        """Refuse a key that cannot be sent in a header.

        Args:
            where: Description of the key's source, for the error.

        Raises:
            UsageError: For a character that is not allowed in a header. The message does not reveal the key.
        """
        if not all("!" <= character <= "~" for character in self.reveal()):
            raise UsageError(
                f"The key of {where} has a character that keys never have: a blank, a line break, or one that is not "
                f"ASCII. Copy it again. Nothing was sent."
            )


class Address(str):
    """A server's URL without the user and password that it may have contained.

    User and password are sent as a browser sends them; they replace the key if both use the same header.

    Attributes:
        login: User and password as the value of an `Authorization` header. None if the URL had none.
    """

    login: Key | None

    def __new__(cls, written: str) -> Address:
        if isinstance(written, Address):
            return written
        parts = urlsplit(written) if "@" in written else None
        if parts is None or "@" not in parts.netloc:
            address, login = super().__new__(cls, written), None
        else:
            known, _, host = parts.netloc.rpartition("@")
            address = super().__new__(cls, urlunsplit(parts._replace(netloc=host)))
            add_secret(unquote(known.partition(":")[2]))
            login = Key("Basic " + base64.b64encode(unquote(known).encode()).decode())
            redact_header(login.reveal())
        address.login = login
        return address

    def headers(self) -> dict[str, Any]:
        """Return the authorization headers. Only for an SDK's client."""
        return {} if self.login is None else {"Authorization": self.login.reveal()}
