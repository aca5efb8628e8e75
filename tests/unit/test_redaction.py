"""Keys are taken out of text, by value and by shape, and nothing else is."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Iterator

import pytest

from pllm_notebook import redaction
from pllm_notebook.redaction import add_secret, install_log_filter, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-abcd****wxyz", "Incorrect API key provided: sk-…"),
        ("sk-ant-api03-abcdefgh and gsk_abcdefgh", "sk-… and gsk_…"),
        ("https://h/v1?key=AIzaSyAbcdefgh&alt=json", "https://h/v1?key=AIza…&alt=json"),
        ("https://h/v1?api_key=abcdefgh&n=2", "https://h/v1?api_key=…&n=2"),
        ("https://h/v1?alt=json&token=abcdefgh", "https://h/v1?alt=json&token=…"),
        ("https://user:s3cr:et@h/v1", "https://user:…@h/v1"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer …"),
        ("authorization=Basic dXNlcjpwYXNz", "authorization=Basic …"),
        ("{'x-api-key': 'abcdefgh', 'n': 1}", "{'x-api-key': '…', 'n': 1}"),
        ('{"x-goog-api-key":"abcdefgh"}', '{"x-goog-api-key":"…"}'),
        ('{\\"api-key\\": \\"abcdefgh\\"}', '{\\"api-key\\": \\"…\\"}'),
        ('{"user": "me", "password": "two words\\"!", "n": 1}', '{"user": "me", "password": "…", "n": 1}'),
        ('{\\"db_password\\":\\"abcdefgh\\",\\"n\\":1}', '{\\"db_password\\":\\"…\\",\\"n\\":1}'),
        ("DB_PASSWORD=abcdefgh host=h", "DB_PASSWORD=… host=h"),
        ("aws_secret_access_key=abcd/efgh+ij", "aws_secret_access_key=…"),
        ('"aws_session_token": "abcdefgh"', '"aws_session_token": "…"'),
        ("https://h/b?X-Amz-Expires=60&X-Amz-Signature=0a1b2c3d", "https://h/b?X-Amz-Expires=60&X-Amz-Signature=…"),
        ("refused: sess-abcdefgh1234", "refused: sess-…"),
        (
            'Authorization: Digest username="me", uri="/v1", response="6629fae49393a05397450978507c4ef1"',
            'Authorization: Digest username="me", uri="/v1", response="…"',
        ),
        (
            "Authorization: AWS4-HMAC-SHA256 SignedHeaders=host, Signature=6629fae49393a05397450978507c4ef1",
            "Authorization: AWS4-HMAC-SHA256 SignedHeaders=host, Signature=…",
        ),
        (
            '{"private_key": "-----BEGIN PRIVATE KEY-----\\nMII+abcd\\n-----END"}',
            '{"private_key": "… PRIVATE KEY-----…-----END"}',
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIEabcd\n-----END", "-----BEGIN PRIVATE KEY-----…-----END"),
    ],
)
def test_what_is_shaped_like_a_key_is_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a risk-averse task-force",
        "max_tokens: 1234567 is too large",
        "the key: see above; no API key is set",
        "https://host:8080/v1/models?limit=100000",
        "mail to someone@example.org",
        "Bearer of bad news",
        "password: required; the password is forgotten",
        'a field "password": {"type": "string", "format": "password"}',
        'Is "password" a "secret"? The response="positive", its signature=missing',
        "the pos-sess-ion and the sess-ions",
        "authorization: Digest",
        "",
    ],
)
def test_what_is_no_key_stays(text: str) -> None:
    assert redact(text) == text


def test_a_key_that_was_read_is_taken_out_wherever_it_stands() -> None:
    add_secret(" odd canary/value+1\n")

    assert redact("<odd canary/value+1> and odd%20canary%2Fvalue%2B1") == "<…> and …"


def test_of_two_keys_that_begin_alike_nothing_is_left() -> None:
    add_secret("canary-alike-1")
    add_secret("canary-alike-1-and-more")

    assert redact("canary-alike-1-and-more, canary-alike-1") == "…, …"


def test_a_word_of_the_language_is_no_key() -> None:
    add_secret("none")
    add_secret("")

    assert redact("none of them") == "none of them"


def test_what_is_known_can_not_be_seen_from_outside() -> None:
    add_secret("canary-hidden-value")

    shown = "".join(repr(value) for value in vars(redaction).values())

    assert "canary-hidden-value" not in shown
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(redaction._without_known)


@pytest.mark.parametrize(
    "piece", ["a", "x-", "a_", "://a", "sk-", "api-key: ", "Bearer ", "?key=", '"password":"', "-----BEGIN "]
)
def test_no_text_takes_more_than_its_length(piece: str) -> None:
    text = piece * (400_000 // len(piece))

    # Quadratic time over this length would meet the suite's own time limit.
    redact(text)


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A guarded logger, and what its handler has written."""
    logger, written = logging.getLogger("pllm_notebook.of_a_test"), io.StringIO()
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    install_log_filter(logger.name)
    yield logger, written
    logger.removeHandler(handler)
    logger.filters.clear()


def test_log_lines_have_no_keys_in_arguments_or_tracebacks(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = logged
    add_secret("canary-of-a-log")

    logger.warning("said %s to %d", "canary-of-a-log", 7)
    try:
        raise ValueError("it was canary-of-a-log")
    except ValueError:
        logger.exception("failed")

    assert "canary" not in written.getvalue()
    assert written.getvalue().startswith("said … to 7\nfailed\nTraceback")
    assert "ValueError: it was …" in written.getvalue()


def test_a_line_without_keys_keeps_its_arguments(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, _ = logged
    seen: list[logging.LogRecord] = []
    logger.addFilter(lambda record: bool(seen.append(record)) or True)

    logger.warning("said %s", "nothing")

    assert seen[0].args == ("nothing",)


def test_guarding_twice_is_guarding_once(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, _ = logged

    install_log_filter(logger.name)

    assert len(logger.filters) == 1


@pytest.mark.parametrize("name", ["pllm_notebook", "pllm_notebook.store"])
def test_the_loggers_of_the_package_are_guarded(name: str) -> None:
    import pllm_notebook

    assert pllm_notebook.redaction is redaction
    assert any(isinstance(each, redaction._Redaction) for each in logging.getLogger(name).filters)


def test_a_pattern_is_tried_on_every_text_that_it_could_match() -> None:
    # Letters that match others where case is ignored: the long s, the Kelvin sign, the i without a dot.
    texts = [
        "baſic abcdefgh", "api\u212aey: abcdefgh", "author\u0131zation: abcdefgh", "client-ſecret=abcdefgh",
        "to\u212aen: abcdefgh and access_to\u212aen: abcdefgh", "?ſig=abcdefgh", "BEARER%20abcdefgh", "sk-abcdefgh",
        "sess-abcdefgh", "pa\u017f\u017fword=abcdefgh",
        "'pa\u017fsword': 'abcdefgh'", "\u017fecret=abcdefgh", "s\u0131gnature=0123456789abcdef",
        "re\u017fponse=0123456789abcdef", "-----BEGIN PRIVATE KEY-----abcdefgh", "AQ.abcdefgh", "ghp_abcdefgh", "ftp://user:word@host",
    ]  # fmt: skip

    whole = []
    for text in texts:
        expected = text
        for pattern in redaction._PATTERNS:
            expected = pattern.sub(r"\1…", expected)
        whole.append(expected)

    assert [redact(text) for text in texts] == whole
    assert all("…" in text for text in whole)
