"""A key leaves this process in the header of its own provider, and is to be found nowhere else."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution.asked_model import resolve_model
from pllm_notebook.redaction import redact
from pllm_notebook.settings import current, resolve
from pllm_notebook.store import close_stores
from tests.contract.echo import Echo
from tests.contract.parrot import ANSWERS, Parrot
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, COMPATIBLE, EVERY_SIDE, GOOGLE, OPENAI, Side
from tests.secrets_seen import CANARY, in_files, in_variables, shown_by

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

# Of no shape that a pattern would know, and of the shapes that the providers give them.
KEYS = {
    "openai": "sk-proj-canary0openai0abcdef",
    "anthropic": "sk-ant-canary0anthropic0abcdef",
    "google": "AIza-canary0google0abcdef",
    "mine": "plain.canary0mine0abcdef",
}
PASSWORD = "canary0password"
# Which of them Anthropic's SDK takes changes with its versions.
HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


@pytest.fixture
def planted(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Every provider and a server have a key; give what sends them all to one address, with a password in it."""
    for side in (OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE):
        monkeypatch.setenv(side.key, KEYS[side.provider])

    def send_to(url: str) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/openai")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{url}/anthropic")
        monkeypatch.setenv("GOOGLE_BASE_URL", f"{url}/google")
        pllm.configure(servers={"mine": f"{url}/mine"})

    return send_to


@pytest.fixture
def written(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Give all that was printed and logged, by anybody and at any level."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2", "pllm_notebook"):
            caplog.set_level(logging.DEBUG, logger=name)
    return lambda: caplog.text + "".join(capfd.readouterr())


def refused(model: str, **options: Any) -> tuple[Any, PllmError | None]:
    """Run into a refusal; give the run, and the error that ended it, None where the row failed alone."""
    run = words("a").llm.submit_text("say {text}", model=model, max_retries=0, timeout_s=10, **options)
    try:
        run.result()
    except PllmError as error:
        return run, error
    return run, None


@pytest.mark.parametrize("side", EVERY_SIDE, ids=lambda side: side.id)
@pytest.mark.sample(9)
@pytest.mark.parametrize(("status", "page"), [(400, False), (401, False), (403, True), (500, True), (200, True)])
def test_a_key_that_is_sent_back_is_shown_and_kept_nowhere(
    planted: Callable[[str], None], written: Callable[[], str], cache_dir: Path, side: Side, status: int, page: bool
) -> None:
    with Parrot(status, page=page) as parrot:
        planted(parrot.url)

        run, error = refused(side.model)
        shown = [repr(run), repr(run.explain(0)), run.explain(0)._repr_html_(), run.to_frame().to_html()]
        shown += [run.errors.to_string(max_colwidth=None), run.errors.to_html(), str(run.errors.to_dict())]
        shown += [repr(pllm.runs()), repr(pllm.cache.info()), repr(current())]
        shown += [str(error), repr(error), "".join(traceback.format_exception(error))] if error else []

    pllm.cache.export(cache_dir / "export")
    engine.shutdown()
    close_stores()
    assert any(KEYS[side.provider] in text for _, headers, _ in parrot.requests for text in headers.values())
    assert [text for text in shown if CANARY in text] == []
    assert shown_by(run) == []
    assert CANARY not in written()
    assert in_files(cache_dir) == []


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE], ids=lambda side: side.id)
def test_a_key_is_in_the_header_of_its_own_provider_and_in_no_other_byte(
    planted: Callable[[str], None], written: Callable[[], str], cache_dir: Path, side: Side
) -> None:
    with Echo(ANSWERS["openai" if side is COMPATIBLE else side.wire]) as echo:
        planted(echo.url)

        out = words("a").llm.complete("say {text}", model=side.model)

    ((path, headers, body),) = echo.requests
    assert out["answer"].tolist() == ["yes"]
    (header,) = (name for name in HEADERS if name in headers)
    assert headers.pop(header).removeprefix("Bearer ") == KEYS[side.provider]
    assert CANARY not in f"{path}{headers}{body}"
    assert CANARY not in written()
    assert in_files(cache_dir) == []


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE], ids=lambda side: side.id)
def test_the_password_of_an_address_opens_its_gate_and_is_shown_nowhere(
    planted: Callable[[str], None], written: Callable[[], str], cache_dir: Path, side: Side
) -> None:
    with Echo(ANSWERS["openai" if side is COMPATIBLE else side.wire]) as echo:
        planted(echo.url.replace("//", f"//somebody:{PASSWORD}@"))

        out = words("a").llm.complete("say {text}", model=side.model)
        with pytest.raises(PllmError) as nameless:
            words("a").llm.complete("say {text}", model=f"{side.provider}:")

    ((path, headers, body),) = echo.requests
    gate = Address(f"http://somebody:{PASSWORD}@host").headers()["Authorization"]
    assert out["answer"].tolist() == ["yes"]
    assert headers["authorization"] == gate
    assert CANARY not in f"{path}{body}{current()!r}{nameless.value}{written()}"
    assert gate not in written()
    assert in_files(cache_dir) == []


def test_a_key_that_is_an_argument_is_shown_nowhere(
    cache_dir: Path, written: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Parrot(401) as parrot:
        monkeypatch.setenv("OPENAI_BASE_URL", parrot.url)
        framework = pllm.create_framework(KEYS["mine"], max_retries=0, num_processors=1)
        with pytest.raises(PllmError) as caught:
            framework.parse_sync(messages=[{"role": "user", "content": "a"}], model=OPENAI.model)

    assert any(KEYS["mine"] in headers["authorization"] for _, headers, _ in parrot.requests)
    assert CANARY not in f"{caught.value}{framework!r}{framework.get_config_summary()}{written()}"
    assert shown_by(framework) == []
    assert in_files(cache_dir) == []


def test_a_key_of_a_client_of_the_callers_own_is_taken_out_of_what_it_is_told(
    cache_dir: Path, written: Callable[[], str]
) -> None:
    with Parrot(400) as parrot:
        pllm.configure(clients={"own": openai.AsyncOpenAI(api_key=KEYS["mine"], base_url=parrot.url)})
        run, _ = refused("own:m")

    assert "Refused" in run.errors["message"][0]
    assert CANARY not in f"{run.errors.to_dict()}{written()}{current()!r}"
    assert in_files(cache_dir) == []


@pytest.mark.parametrize("header", ["x-gateway-token", "authorization", "x-anything"])
def test_a_secret_header_of_a_client_of_the_callers_own_is_taken_out_of_what_it_is_told(
    cache_dir: Path, written: Callable[[], str], header: str
) -> None:
    secret = "canary0header0value0of0long0letters"
    headers = {header: f"Basic {secret}" if header == "authorization" else secret}
    with Parrot(400) as parrot:
        client = openai.AsyncOpenAI(api_key=KEYS["mine"], base_url=parrot.url, default_headers=headers)
        pllm.configure(clients={"own": client})
        run, _ = refused("own:m")

    assert "Refused" in run.errors["message"][0]
    assert CANARY not in f"{run.errors.to_dict()}{written()}{current()!r}"
    assert in_files(cache_dir) == []


def test_the_base64_of_a_login_is_taken_out_by_itself() -> None:
    login = Address(f"http://somebody:{PASSWORD}@host").headers()["Authorization"].removeprefix("Basic ")

    assert redact(f"it said {login!r} and {PASSWORD}") == "it said '…' and …"


def test_no_function_of_ours_has_a_key_among_its_variables(
    planted: Callable[[str], None], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.shutdown()  # so that its thread begins while we look
    with Echo(ANSWERS["openai"]) as echo, in_variables() as found:
        planted(echo.url.replace("//", f"//somebody:{PASSWORD}@"))
        for model in (OPENAI.model, ANTHROPIC.model, GOOGLE.model, COMPATIBLE.model, "mine:", "opnai:m"):
            with suppress(UsageError):
                refused(model)
        framework = pllm.create_framework(KEYS["mine"])
        with pytest.raises(UsageError):
            framework.parse_sync(messages=[], model=OPENAI.model)
        with pytest.raises(PllmError):
            pllm.create_framework(KEYS["mine"], num_procesors=3)

    assert found == []


def test_what_holds_a_key_is_not_pickled_and_shows_nothing(
    planted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(f"http://somebody:{PASSWORD}@127.0.0.1:1")
    held = [Key(KEYS["mine"]), pllm.ParallelLLM(KEYS["mine"]), Address(f"http://a:{PASSWORD}@host"), current()]
    held += [resolve_model(resolve({"model": side.model})) for side in (OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE)]

    for one in held:
        assert shown_by(one) == []
        assert CANARY not in f"{one!r}{one}"
        # The closures of targets cannot be pickled at all, and a key says why it is not.
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.dumps(one)


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE, COMPATIBLE], ids=lambda side: side.id)
@pytest.mark.parametrize("key", ["canary0abc\ndef", "canary0abcé", "canary0 abc"], ids=["line", "letter", "blank"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    planted: Callable[[str], None],
    written: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    side: Side,
    key: str,
) -> None:
    with Echo({}) as echo:
        planted(echo.url)
        monkeypatch.setenv(side.key, key)

        _, error = refused(side.model)

    assert isinstance(error, UsageError)
    assert str(error) == (
        f"The key of {side.provider} has a character that keys never have: a blank, a line break, or one that is not "
        f"ASCII. Copy it again. Nothing was sent."
    )
    assert echo.requests == []
    assert CANARY not in written()


def test_a_line_break_after_a_key_is_no_part_of_it(planted: Callable[[str], None], monkeypatch: Any) -> None:
    with Echo(ANSWERS["openai"]) as echo:
        planted(echo.url)
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEYS['openai']}\n")

        words("a").llm.complete("say {text}", model=OPENAI.model)

    assert echo.requests[0][1]["authorization"] == f"Bearer {KEYS['openai']}"
