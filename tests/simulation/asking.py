"""What a step asks: the package's own question, plan, rows and run, put together over a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from pydantic import BaseModel

from pllm_notebook.ensemble.decisions import EnsembleSpec, Member
from pllm_notebook.ensemble.judge_prompt import DECISION_MAKER_PROMPT, verdict_type
from pllm_notebook.ensemble.spec import ensemble_execution
from pllm_notebook.ensemble.votes import Vote
from pllm_notebook.execution import CallSpec, Execution, LiveRun
from pllm_notebook.execution.launch import options_for
from pllm_notebook.execution.services import RunServices
from pllm_notebook.frames.pandas.adapter import PandasTable
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_question import RowQuestion
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.prices import rate_of
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.schema import OutputType
from pllm_notebook.templates import Template
from pllm_notebook.types import Progress
from tests.simulation.disk import SimStore
from tests.simulation.provider import LIMIT_TOKENS, Provider
from tests.simulation.scenario import Question, Step
from tests.simulation.world import Process

__all__ = ["RATES", "Asker", "Sink"]

_MODEL, _JUDGE, _LADDER = "openai:gpt-6-luna", "openai:gpt-6-sol", "lab:model"
RATES = {"gpt-6-luna": rate_of("openai", "gpt-6-luna"), "gpt-6-sol": rate_of("openai", "gpt-6-sol"), "model": None}


class Scored(BaseModel):
    item: str
    score: int


class Labelled(BaseModel):
    item: str
    score: int
    label: str


_TYPES: dict[str, OutputType | None] = {
    "text": None,
    "scored": OutputType.of(Scored),
    "labelled": OutputType.of(Labelled),
}
_TEMPLATES = {version: Template.compile(f"Rate {{text}} ({version})", ["text"]) for version in ("v1", "v2")}


class Sink:
    """A display that only tells when its run has ended."""

    stays = False

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.last: Progress | None = None

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self.ended.clear()

    def update(self, progress: Progress) -> None:
        pass

    def close(self, progress: Progress, retry: object) -> None:
        self.last = progress
        self.ended.set()


class Asker:
    """Makes the runs of one process.

    Args:
        process: Whose engine they run on.
        provider: Who answers.
        store: The process's.
        account: Tells it from every other process: what one learned of an account, no other knows.
        ladder: Whether the server is one whose structured output is not guaranteed.
    """

    def __init__(
        self, process: Process, provider: Provider, store: SimStore, account: str, *, unenforced_schema: bool
    ) -> None:
        self._process = process
        self._provider = provider
        self._store = store
        self._account = account
        self._unenforced_schema = unenforced_schema
        self._targets: dict[str, ResolvedModel] = {}

    def make(self, step: Step, frame: pd.DataFrame) -> tuple[LiveRun, Sink]:
        """Make a run of *frame*, still to be started, and the display that tells of its end."""
        question = step.question
        options = options_for(
            {
                "model": _LADDER if self._unenforced_schema else _MODEL,
                "max_output_tokens": LIMIT_TOKENS,
                "salt": question.salt,
                "pack": question.pack,
                "temperature": question.temperature,
                **step.options,
            }
        )
        output = _TYPES[question.shape]
        shape = ResultColumns(output, options)
        rows = TableRows(PandasTable(frame), RowQuestion(_TEMPLATES[question.version], shape, options, "simulated"))
        make = self._plan if question.samples > 1 else self._single
        kept = None if options.cache == "off" else self._store
        spec, execution = make(question, options, output, rows, RunServices(self._process.engine, kept))
        sink = Sink()
        return LiveRun(spec, rows, execution, sink), sink

    def _single(
        self, question: Question, options: Any, output: OutputType | None, rows: TableRows, services: RunServices
    ) -> tuple[CallSpec, Execution]:
        spec = CallSpec(self._target(options.model), options, output, None)
        return spec, Execution([spec], rows, services)

    def _plan(
        self, question: Question, options: Any, output: OutputType | None, rows: TableRows, services: RunServices
    ) -> tuple[CallSpec, Execution]:
        target = self._target(options.model)
        specs = [CallSpec(target, options, output, None, sample=sample) for sample in range(question.samples)]
        members = tuple(Member(spec, target.label, sample) for sample, spec in enumerate(specs))
        judge = None
        if question.judged:
            judging = replace(options, temperature=None, pack=None, max_output_tokens=4 * LIMIT_TOKENS)
            model = options.model if self._unenforced_schema else _JUDGE
            judge = CallSpec(self._target(model), judging, verdict_type(output), DECISION_MAKER_PROMPT)
        plan = EnsembleSpec(members, "judge" if question.judged else "vote", Vote(), judge, output)
        return specs[0], ensemble_execution(plan, rows, services)

    def _target(self, model: str) -> ResolvedModel:
        target = self._targets.get(model)
        if target is None:
            servers = {"lab": "http://127.0.0.1:9/v1"}
            resolved = resolve(model, servers=servers, clients={}, keys={}, simulator=lambda wire: "")
            # What one process learns of a server, no other knows.
            target = self._targets[model] = replace(
                resolved,
                connect=self._provider.connect,
                account=self._account,
                quirks=Quirks(),
                missing_key=None,
            )
        return target
