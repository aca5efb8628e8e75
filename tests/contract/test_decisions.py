"""Decision endpoints over the wire: one class over decisions and chat, cell by cell."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import openai
import orjson
import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|lacks? a field)")


class Inner(BaseModel):
    ok: bool


class Decided(BaseModel):
    """Facts stated in a review."""

    mood: Literal["negative", "neutral", "positive"] = Field(description="How the writer feels")
    stars: int = Field(ge=1, le=5)
    again: bool
    gift: bool | None
    topics: list[Literal["price", "size"]]
    inner: Inner
    fixed: Literal["only"]


class Review(Decided):
    """Facts stated in a review."""

    summary: str


VALUE = {
    "mood": "negative",
    "stars": 4,
    "again": True,
    "gift": None,
    "topics": ["size"],
    "inner": {"ok": True},
    "fixed": "only",
    "summary": "Broken.",
}
TOLD: dict[str, dict[str, float]] = {
    "mood": {"negative": 0.6, "neutral": 0.3, "positive": 0.1},
    "stars": {"4": 0.5, "5": 0.25, "1": 0.25},
    "gift": {"Not stated.": 0.7, "true": 0.2, "false": 0.1},
    "topics.price": {"true": 0.1, "false": 0.9},
    "topics.size": {"true": 0.8, "false": 0.2},
    "inner.ok": {"true": 0.9, "false": 0.1},
}


def told(request: SimRequest) -> SimAnswer:
    return SimAnswer.value(VALUE, probabilities=TOLD)


def decided(kind: Any = Review, *texts: str, **options: Any) -> pd.DataFrame:
    given = {"model": "openai:gpt-6-luna", "probabilities": "decisions"} | options
    out: pd.DataFrame = words(*(texts or ("one",))).llm.parse(kind, "Read this review:\n{text}", **given)
    return out


def paths(sim: Simulator) -> list[str]:
    return sorted(request["path"].rpartition("/")[2] for request in sim.requests())


def test_what_has_known_values_is_decided_and_chat_writes_the_rest(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    out = decided()

    assert paths(sim) == ["completions", "decisions"]
    assert out.drop(columns="text").iloc[0].to_dict() == VALUE
    decision, chat = (next(one["body"] for one in sim.requests() if end in one["path"]) for end in ("decis", "chat"))
    assert decision["input"] == [
        {"role": "system", "content": "Facts stated in a review.\n\nRead this review:"},
        {"role": "user", "content": "one"},
    ]
    assert [question["name"] for question in decision["questions"]] == [
        "mood", "stars", "again", "gift", "topics.price", "topics.size", "inner.ok",
    ]  # fmt: skip
    assert list(chat["response_format"]["json_schema"]["schema"]["properties"]) == ["summary"]
    assert chat["messages"][-1]["content"] == "Read this review:\none"


def test_a_type_whose_values_are_all_known_is_one_call_a_row(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    out = decided(Decided, "one", "two", "one")

    assert paths(sim) == ["decisions", "decisions"]
    assert out["mood"].tolist() == ["negative"] * 3


def test_every_cell_has_its_source_and_its_probability(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    out = decided(confidence_column="sure")

    assert out["sure"].tolist() == [0.5]
    for _ in range(2):
        lines = out.llm.probabilities
        found = {(line.field, line.option): line.p for line in lines.itertuples()}
        assert [found["mood", option] for option in TOLD["mood"]] == [0.6, 0.3, 0.1]
        assert found["stars", "4"] == 0.5
        assert found["topics", "size"] == 0.8
        assert set(lines["model"]) == {"openai:gpt-6-luna"}
        assert set(lines["source"][lines["field"] == "mood"]) == {"decisions"}
        assert set(lines["source"][lines["field"] == "fixed"]) == {"fixed"}
        sure = out.llm.confidence
        assert sure.columns.tolist() == ["mood", "stars", "again", "gift", "topics", "inner.ok", "fixed", "summary"]
        assert sure[["mood", "stars", "gift", "topics", "inner.ok", "fixed"]].iloc[0].tolist() == pytest.approx(
            [0.6, 0.5, 0.7, 0.8, 0.9, 1]
        )
        assert sure["summary"].isna().all()
        run_registry.forget_all()  # and as a new kernel has it


def test_running_the_cell_again_sends_nothing(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    decided(Review, "one", "two")

    out = decided(Review, "one", "two")

    assert sim.stats().requests == 4
    assert out.llm.status.tolist() == ["cached", "cached"]
    assert out.llm.errors.empty


def test_a_refused_question_fails_its_cell_alone(luna: str, sim: Simulator) -> None:
    refusing = SimAnswer.value(VALUE, refused=("mood", "topics.price"))
    sim.set(answers=lambda request: refusing if "two" in request.prompt else told(request))

    out = decided(Review, "one", "two", error_column="why")

    assert out["mood"].isna().tolist() == [False, True]
    assert out["topics"].isna().tolist() == [False, True]
    assert out["summary"].tolist() == ["Broken.", "Broken."]
    assert out["stars"].tolist() == [4, 4]
    assert out.llm.status.tolist() == ["ok", "ok"]
    assert out["why"].iloc[0] is pd.NA or pd.isna(out["why"].iloc[0])
    assert "mood: refusal" in out["why"].iloc[1]
    for _ in range(2):
        errors = out.llm.errors
        assert errors[["position", "kind", "field"]].to_numpy().tolist() == [
            [1, "refusal", "mood"],
            [1, "refusal", "topics"],
        ]
        assert out.llm.confidence["mood"].isna().tolist() == [False, True]
        run_registry.forget_all()
    again = decided(Review, "one", "two")
    assert again["mood"].isna().tolist() == [False, True]
    assert sim.stats().requests == 4


def test_a_call_that_fails_fails_its_own_cells_and_is_sent_again(luna: str, sim: Simulator) -> None:
    def answers(request: SimRequest) -> SimAnswer:
        failing = "questions" not in request.body
        return SimAnswer.status(500) if failing else told(request)

    sim.set(answers=answers)
    first = decided(max_retries=0)
    failed = first.llm.errors

    sim.set(answers=told)
    out = decided()

    assert first["mood"].tolist() == ["negative"]
    assert first["summary"].isna().all()
    assert failed[["kind", "field"]].to_numpy().tolist() == [["server_error", "summary"]]
    assert out["summary"].tolist() == ["Broken."]
    assert len([path for path in paths(sim) if path == "decisions"]) == 1


def test_a_retry_takes_up_a_row_that_lacks_a_field(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: told(request) if "questions" in request.body else SimAnswer.status(500))
    run = words("one").llm.submit(Review, "{text}", model=luna, probabilities="decisions", max_retries=0)
    run.wait()

    sim.set(answers=told)
    run.retry()
    run.wait()

    out = run.to_frame()
    assert out["summary"].tolist() == ["Broken."]
    assert (run.progress().done, run.progress().failed) == (1, 0)


def test_a_reply_that_is_refused_by_a_validator_is_the_row_s_failure(luna: str, sim: Simulator) -> None:
    class Strict(Decided):
        def model_post_init(self, context: Any) -> None:
            if self.mood == "negative":
                raise ValueError("no moods")

    sim.set(answers=told)

    out = decided(Strict)

    (kind,) = out.llm.errors["kind"]
    assert kind == "schema"
    assert out.llm.probabilities["p"].tolist()[:3] == [0.6, 0.3, 0.1]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "no answer to the question 'mood'"),
        ([{"type": "choice", "name": "mood", "choice": "a", "probabilities": []}], "other options than the question"),
        ([{"type": "choice", "name": "mood", "choice": "good", "probabilities": [
            {"value": "good", "probability": 0.5}, {"value": "bad", "probability": 0.3}]}], "add up to 0.8"),
        ([{"type": "choice", "name": "mood", "choice": "bad", "probabilities": [
            {"value": "good", "probability": 0.6}, {"value": "bad", "probability": 0.4}]}], "not the most probable"),
        ([{"type": "choice", "name": "mood", "choice": "good", "probabilities": [
            {"value": "good", "probability": "1"}, {"value": "bad", "probability": 0}]}], "not a number"),
        ([{"type": "other", "name": "mood"}], "an answer of the type 'other'"),
    ],
)  # fmt: skip
def test_a_reply_that_does_not_fit_its_questions_is_malformed(
    luna: str, sim: Simulator, caplog: pytest.LogCaptureFixture, answers: list[Any], said: str
) -> None:
    class Mood(BaseModel):
        mood: Literal["good", "bad"]

    sim.set(answers=lambda request: SimAnswer.status(200, body={"answers": answers, "model": "m"}))

    out = decided(Mood, max_retries=0)

    ((kind, message),) = out.llm.errors[["kind", "message"]].to_numpy().tolist()
    assert kind == "malformed_reply"
    assert said in message
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pack": 2}, "Leave pack= out"),
        ({"samples": 3}, "Leave samples= out"),
        ({"models": ["openai:gpt-6-luna", "google:gemini-3"]}, "Leave models= out"),
        ({"mode": "batch"}, "OpenAI's decision endpoint has no batch API"),
        ({"model": "anthropic:claude-haiku-5-5"}, "has no decision endpoint. Name a model that decides"),
    ],
)
def test_what_decisions_cannot_be_asked_with_is_an_error_before_anything_is_sent(
    luna: str, sim: Simulator, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        decided(**options)

    assert sim.stats().requests == 0


def test_a_type_without_known_values_is_refused(luna: str) -> None:
    class Text(BaseModel):
        summary: str

    with pytest.raises(UsageError, match="needs a field whose values are known"):
        decided(Text)


def test_a_type_with_one_value_has_nothing_to_ask(luna: str) -> None:
    with pytest.raises(UsageError, match=r"has only one, so there is no question .* Leave probabilities= out"):
        decided(Literal["only"])


def test_the_other_model_is_named_where_the_run_and_the_estimate_are_shown(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    estimate = words("one").llm.estimate(Review, "{text}", model=luna, probabilities="decisions")
    decided()

    assert estimate.model == "openai:gpt-6-luna (decisions), openai:gpt-6-luna"
    assert (estimate.calls, estimate.cost_usd is not None) == (2, True)
    assert "openai:gpt-6-luna (decisions), openai:gpt-6-luna" in repr(pllm.runs()[-1])


def test_a_ceiling_holds_for_decisions(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    with pytest.warns(UserWarning, match="^stopped at max_cost_usd: "):
        out = decided(Decided, *map(str, range(50)), max_cost_usd=0.0005, concurrency=1)

    assert pllm.runs()[-1].cost <= 0.0005
    assert 0 < sim.stats().requests < 50
    assert out["mood"].isna().sum() == 50 - sim.stats().requests
    # Decided too: what had its answer when the ceiling ended the run, and what is not sent.
    answered = sim.stats().requests
    assert out.llm.status.tolist() == ["ok"] * answered + ["not_sent"] * (50 - answered)


def test_samples_are_not_what_decisions_are(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    out = decided()

    with pytest.raises(PllmError, match="asked each row once"):
        out.llm.samples  # noqa: B018


def test_the_body_is_what_openai_s_client_sends_and_reads(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    decided(Decided)
    (ours,) = sim.requests()
    client = openai.OpenAI(api_key="any", base_url=sim.base_url("openai"), max_retries=0)

    with client:
        reply = client.decisions.create(**ours["body"])

    theirs = sim.requests()[-1]
    assert theirs["path"] == ours["path"]
    assert theirs["body"] == ours["body"]
    kinds = [answer.type for answer in reply.answers]
    assert kinds == ["choice", "score", "predicate", "choice", "predicate", "predicate", "predicate"]
    assert reply.usage.output_tokens == 0


GOOGLE = "google:gemini-3.5-flash-lite"
SERVERS = {"jev": "systemone", "sgl": "sglang"}


def reach_all(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "any-key")
    monkeypatch.setenv("GOOGLE_BASE_URL", sim.base_url("google"))
    addresses = {name: sim.base_url(kind) for name, kind in SERVERS.items()} | {"fire": sim.base_url("compatible")}
    pllm.configure(servers=addresses, decision_formats=SERVERS | {"fire": "openai"})


@pytest.mark.parametrize(
    ("model", "path", "deciding"),
    [
        (GOOGLE, "/google/v1beta/decisions", "google:gemini-decision-1"),
        ("jev:jev-latest", "/systemone/v1/systemone", "jev:jev-latest"),
        ("sgl:qwen", "/sglang/v1/decisions", "sgl:qwen"),
        ("fire:qwen", "/compatible/v1/decisions", "fire:qwen"),
    ],
)
def test_every_format_decides_the_same_class(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, model: str, path: str, deciding: str
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    out = decided(model=model)
    again = decided(model=model)

    assert sim.stats().requests == 2
    assert path in [request["path"] for request in sim.requests()]
    assert out.drop(columns="text").iloc[0].to_dict() == again.drop(columns="text").iloc[0].to_dict() == VALUE
    sure = out.llm.confidence[["mood", "stars", "gift", "topics", "inner.ok", "fixed"]].iloc[0]
    assert sure.tolist() == pytest.approx([0.6, 0.5, 0.7, 0.8, 0.9, 1])
    assert set(out.llm.probabilities["model"]) == {deciding}


def test_without_roles_the_task_precedes_each_question(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    decided(Decided, model="jev:jev-latest", system="Be strict.")

    (request,) = sim.requests()
    assert request["body"]["state"] == "one"
    assert request["body"]["questions"]["mood"] == {
        "type": "choice",
        "instructions": "Be strict.\n\nFacts stated in a review.\n\nRead this review:\n\nmood: How the writer feels",
        "criteria": {"negative": "", "neutral": "", "positive": ""},
    }


def test_the_body_is_what_google_s_client_sends_and_reads(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google import genai

    reach_all(sim, monkeypatch)
    sim.set(answers=told)
    decided(Decided, model=GOOGLE)
    (ours,) = sim.requests()
    client = genai.Client(api_key="any", http_options={"base_url": sim.base_url("google"), "api_version": "v1beta"})

    reply = client.decisions.create(**ours["body"])

    theirs = sim.requests()[-1]
    assert theirs["path"] == ours["path"] == "/google/v1beta/decisions"
    assert theirs["body"] == ours["body"]
    assert reply.answers["mood"].choice == "negative"
    assert reply.usage.total_output_tokens == 0
    client.close()


def test_google_refuses_an_input_as_a_whole(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.filtered())

    out = decided(Decided, model=GOOGLE)

    assert out.llm.errors["kind"].tolist() == ["content_filter"]
    assert sim.stats().requests == 1


@pytest.mark.parametrize(("code", "kind"), [(400, "bad_request"), (500, "server_error")])
@pytest.mark.parametrize("model", [GOOGLE, "jev:jev-latest", "openai:gpt-6-luna"])
def test_an_error_is_sent_as_often_as_the_engine_says_and_no_more(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, model: str, code: int, kind: str
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.status(code))

    out = decided(Decided, model=model, max_retries=0)

    assert out.llm.errors["kind"].tolist() in ([kind], ["rejected"])
    assert sim.stats().requests == 1


def test_a_server_without_a_known_format_is_an_error_that_says_how_to_name_it(luna: str, sim: Simulator) -> None:
    pllm.configure(servers={"vllm": sim.base_url("compatible")})

    with pytest.raises(UsageError, match=r"decision_formats=\{'vllm': 'systemone'\}"):
        decided(model="vllm:qwen")
    with pytest.raises(UsageError, match=r"'syst'; expected one of .*'sglang'"):
        pllm.configure(decision_formats={"vllm": "syst"})

    assert sim.stats().requests == 0


def test_another_provider_can_decide(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    out = decided(model=luna, decision_model="google:gemini-decision-1")

    paths_seen = sorted(request["path"] for request in sim.requests())
    assert paths_seen == ["/google/v1beta/decisions", "/openai/v1/chat/completions"]
    assert set(out.llm.probabilities["model"]) == {"google:gemini-decision-1"}


def test_a_price_that_no_table_has_can_be_stated(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)
    ask: dict[str, Any] = {"model": GOOGLE, "probabilities": "decisions"}
    rows = words("one", "two")

    unknown = rows.llm.estimate(Decided, "{text}", **ask)
    with pytest.raises(UsageError, match="price"):
        decided(Decided, model=GOOGLE, max_cost_usd=1)
    known = rows.llm.estimate(Decided, "{text}", prices={"google:gemini-decision-1": 0.10}, **ask)
    out = decided(Decided, model=GOOGLE, max_cost_usd=1, prices={"google:gemini-decision-1": 0.10})

    assert (unknown.cost_usd, unknown.batch_cost_usd) == (None, None)
    assert known.cost_usd == pytest.approx(known.input_tokens * 0.10 / 1e6, rel=0.1)
    assert pllm.runs()[-1].cost == pytest.approx(sim.stats().input_tokens * 0.10 / 1e6)
    assert out["mood"].tolist() == ["negative"]


class Many(BaseModel):
    labels: list[Literal[tuple(f"l{n}" for n in range(250))]]  # type: ignore[valid-type]
    others: list[Literal[tuple(f"o{n}" for n in range(250))]]  # type: ignore[valid-type]


def test_questions_beyond_the_limit_are_split_over_requests(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"labels": ["l7"], "others": ["o249"]}))

    out = decided(Many)

    assert sorted(len(request["body"]["questions"]) for request in sim.requests()) == [100, 400]
    assert (out["labels"].tolist(), out["others"].tolist()) == ([["l7"]], [["o249"]])
    assert out.llm.confidence.notna().all(axis=None)


class Team(StrEnum):
    def __new__(cls, value: str, about: str) -> Team:
        member = str.__new__(cls, value)
        member._value_, member.__doc__ = value, about
        return member

    BILLING = "billing", "Payments and refunds."
    OTHER = "other", "Anything else."


class Ticket(BaseModel):
    team: Team | None
    tags: list[Team]
    tone: Annotated[Literal["calm"], Field(description="No complaint.")] | Literal["angry"]


def test_questions_that_are_long_with_their_instructions_are_split(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)

    out = decided(Decided, model="jev:jev-latest", system="x" * 40_000)
    again = decided(Decided, model="jev:jev-latest", system="x" * 40_000)

    assert sorted(len(request["body"]["questions"]) for request in sim.requests()) == [1, 3, 3]
    assert out.drop(columns="text").iloc[0].to_dict() == {name: VALUE[name] for name in Decided.model_fields}
    assert again.llm.status.tolist() == ["cached"]


def test_what_is_written_about_an_option_is_sent_beside_it(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.value({"team": "billing", "tags": ["other"], "tone": "calm"}))

    for model in (luna, GOOGLE, "sgl:qwen"):
        out = decided(Ticket, model=model)

        assert out["tone"].tolist() == ["calm"]
    openai_s, google_s, sglang_s = (request["body"]["questions"] for request in sim.requests())
    assert openai_s[0]["choices"] == [
        {"value": "billing", "description": "Payments and refunds."},
        {"value": "other", "description": "Anything else."},
        {"value": "Not stated."},
    ]
    assert openai_s[1]["instructions"] == "tags. This applies: billing (Payments and refunds)."
    assert google_s["tone"]["criteria"] == {"calm": "No complaint.", "angry": ""}
    assert sglang_s[-1]["options"] == [{"name": "calm", "description": "No complaint."}, {"name": "angry"}]


def test_what_an_endpoint_has_too_few_options_for_is_left_to_chat(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(BaseModel):
        mood: Literal["good", "bad"]
        day: int = Field(ge=1, le=31)

    reach_all(sim, monkeypatch)
    sim.set(answers=lambda request: SimAnswer.value({"mood": "bad", "day": 30}))

    out = decided(Wide, model="sgl:qwen")

    assert (out["mood"].tolist(), out["day"].tolist()) == (["bad"], [30])
    assert out.llm.confidence["day"].isna().all()
    assert sim.stats().requests == 2


def test_images_are_shown_beside_the_input(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(answers=told)
    picture = tmp_path / "a.png"
    picture.write_bytes(base64.b64decode(PIXEL))
    frame = pd.DataFrame({"text": ["one"], "photo": [str(picture)]})

    for model in ("openai:gpt-6-luna", GOOGLE):
        frame.llm.parse(
            Decided, "Look: {text}", model=model, probabilities="decisions", images="photo", images_from=str(tmp_path)
        )

    ours, theirs = (request["body"]["input"] for request in sim.requests())
    url = f"data:image/png;base64,{PIXEL}"
    assert ours[-1]["content"] == [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "one"}]
    assert theirs == [
        {"type": "image", "mime_type": "image/png", "data": PIXEL},
        {"type": "text", "text": "one"},
    ]


def test_a_preview_shows_what_is_sent(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)

    seen = words("one", "two").llm.preview(
        Review, "Is {text} good? Say so.", rows=1, model=luna, probabilities="decisions"
    )

    by_path = {request["path"].removeprefix("/openai/v1"): request["body"] for request in sim.requests()}
    shown = [text.partition("\n") for text in seen.sent]
    assert {head.removeprefix("POST "): orjson.loads(body) for head, _, body in shown} == by_path
    assert by_path["/decisions"]["input"][0]["content"].endswith(
        "In this task {text} is the input:\nIs {text} good? Say so."
    )
    assert "POST /decisions" in repr(seen)
    assert "POST /decisions" in seen._repr_html_()


def test_what_is_judged_of_several_columns_is_one_object(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    frame = pd.DataFrame({"title": ["a", None], "text": ["b", "c"]})

    out = frame.llm.parse(Decided, "{title}: {text}. {title}?", model=luna, probabilities="decisions")

    (request,) = sim.requests()
    assert orjson.loads(request["body"]["input"][-1]["content"]) == {"title": "a", "text": "b"}
    assert out.llm.status.tolist() == ["ok", "skipped"]


def test_a_row_s_own_instruction_has_the_task_behind_it(luna: str, sim: Simulator) -> None:
    sim.set(answers=told)
    frame = pd.DataFrame({"who": ["Ann"], "text": ["b"]})

    frame.llm.parse(Decided, "Judge: {text}", model=luna, probabilities="decisions", system="You are {who}.")

    (request,) = sim.requests()
    assert request["body"]["input"] == [
        {"role": "system", "content": "You are Ann.\n\nFacts stated in a review.\n\nJudge:"},
        {"role": "user", "content": "b"},
    ]


class Mood(BaseModel):
    mood: Literal["bad", "good"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", ["decisions", "logprobs"])
def test_a_known_miscalibration_is_stated_and_can_be_found(luna: str, sim: Simulator, how: str) -> None:
    pytest.importorskip("sklearn")
    sim.set(answers=lambda request: {"mood": "good"}, known_errors=0.25, miscalibration={"temperature": 3.0})
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(600)], "label": ["good"] * 600})

    out = frame.llm.parse(Mood, "{text}", model=luna, probabilities=how, effort="none")
    found = out.llm.calibrate(against="label", field="mood")

    right = (out["mood"] == "good").mean()
    stated = out.llm.confidence["mood"].mean()
    assert 0.68 < right < 0.82
    assert stated > right + 0.07
    assert abs(found.confidence.mean() - right) < 0.03


def test_doubt_finds_the_errors_that_the_known_probabilities_imply(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: {"mood": "good"}, known_errors=0.25, miscalibration={"temperature": 3.0})
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(600)]})

    out = frame.llm.parse(Mood, "{text}", model=luna, probabilities="decisions")

    wrong = (out["mood"] != "good").to_numpy()
    stated = out.llm.confidence["mood"].to_numpy(dtype=float)
    true = 1 / (1 + (1 / stated.clip(0.005, 0.995) - 1) ** (1 / 3))  # the fault is known
    doubtful = out.llm.doubtful(60).index
    implied = (1 - true)[doubtful].sum()
    assert wrong[doubtful].sum() > implied - 3 * (true * (1 - true))[doubtful].sum() ** 0.5
    assert wrong[doubtful].mean() > 1.4 * wrong.mean()


def test_a_refused_question_is_asked_again_where_a_retry_says_so(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value(VALUE, refused=("mood",)))
    run = words("one").llm.submit(Review, "{text}", model=luna, probabilities="decisions")
    run.wait()

    sim.set(answers=told)
    run.retry()
    run.wait()
    still = run.to_frame()["mood"].isna().tolist()
    run.retry(kinds=["refusal"])
    run.wait()

    assert still == [True]
    assert run.to_frame()["mood"].tolist() == ["negative"]
    assert run.errors.empty
    assert paths(sim) == ["completions", "decisions", "decisions"]


def test_a_dataset_is_decided_part_by_part(luna: str, sim: Simulator, tmp_path: Any) -> None:
    pytest.importorskip("pyarrow")
    sim.set(answers=told)
    words("one", "two", "three").to_parquet(tmp_path / "in.parquet")

    pllm.parse_dataset(
        tmp_path / "in.parquet", tmp_path / "out", Decided, "{text}", model=luna, probabilities="decisions", rows=2
    )

    made = pd.read_parquet(tmp_path / "out")
    assert made["mood"].tolist() == ["negative"] * 3
    assert sim.stats().requests == 3


@dataclass
class Plain:
    mood: Literal["good", "bad"]
    again: bool


def test_a_refused_cell_of_a_dataclass_leaves_the_others(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"mood": "good", "again": True}, refused=("mood",)))

    out = decided(Plain)

    assert out["mood"].isna().all()
    assert out["again"].tolist() == [True]


def test_a_type_of_one_value_is_one_question(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"answer": "bad"}))

    out = decided(Literal["good", "bad"])

    assert out["answer"].tolist() == ["bad"]


class Aliased(BaseModel):
    mood: Literal["good", "bad"] = Field(alias="the-mood")
    counts: dict[str, int]
    pair: tuple[bool, str]


@pytest.mark.parametrize("kind", [None, Aliased])
def test_a_later_kernel_reads_what_was_decided_and_written(luna: str, sim: Simulator, kind: Any) -> None:
    out = decided(Aliased, "one", "two")
    sure = out.llm.confidence
    run_registry.forget_all()

    run = pllm.run(out.attrs["pllm_run"])

    pd.testing.assert_frame_equal(run.to_frame(response_format=kind), out[["mood", "counts", "pair"]])
    assert run.errors.empty
    pd.testing.assert_frame_equal(out.llm.confidence, sure)
    assert sure["mood"].notna().all()


def test_an_explanation_has_the_body_that_was_sent(luna: str, sim: Simulator) -> None:
    out = decided(Decided)

    (sent,) = sim.requests()
    assert out.llm.explain(0).body == sent["body"]
    assert sent["body"]["input"][-1]["content"] == "one"


def test_many_options_are_rounded_one_by_one(luna: str, sim: Simulator) -> None:
    class Share(BaseModel):
        percent: int = Field(ge=0, le=100)

    assert decided(Share)["percent"].notna().all(), "of the simulator"

    stated = {str(value): 0.71 if value == 7 else 0.0 for value in range(101)}  # as hundredths of what adds up to 1
    sim.set(answers=lambda request: SimAnswer.value({"percent": 7}, probabilities={"percent": stated}))
    out = decided(Share, "two")

    assert out["percent"].tolist() == [7]
    assert out.llm.confidence["percent"].tolist() == [0.71]
