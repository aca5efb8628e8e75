"""Several answers to one question, and one decision among them: samples, votes, a judge, a cascade."""

from pllm_notebook.ensemble.assembly import Assembly
from pllm_notebook.ensemble.decision_calls import first_bodies
from pllm_notebook.ensemble.decisions import CellFailure, Decision, EnsembleSpec, How, Member
from pllm_notebook.ensemble.ensemble_results import EnsembleResults
from pllm_notebook.ensemble.guarantee_figures import GuaranteeFigures
from pllm_notebook.ensemble.guaranteed_results import GuaranteedResults
from pllm_notebook.ensemble.judge_prompt import DECISION_MAKER_PROMPT, render_judge_prompt, verdict_type
from pllm_notebook.ensemble.promise import KnownLabels
from pllm_notebook.ensemble.spec import Spec, ensemble_spec_for, estimate, lines, spec_for, submit
from pllm_notebook.ensemble.votes import Vote, VoteCount

__all__ = [
    "DECISION_MAKER_PROMPT",
    "Assembly",
    "CellFailure",
    "Decision",
    "EnsembleResults",
    "EnsembleSpec",
    "GuaranteeFigures",
    "GuaranteedResults",
    "How",
    "KnownLabels",
    "Member",
    "Spec",
    "Vote",
    "VoteCount",
    "ensemble_spec_for",
    "estimate",
    "first_bodies",
    "lines",
    "render_judge_prompt",
    "spec_for",
    "submit",
    "verdict_type",
]
