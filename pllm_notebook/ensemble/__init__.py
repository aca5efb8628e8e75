"""Several answers to one question, and one decision: samples, votes, a judge, a cascade."""

from pllm_notebook.ensemble.course import EnsembleCourse
from pllm_notebook.ensemble.decisions import Decision, How, Member, Plan
from pllm_notebook.ensemble.questions import Question, estimate, lines, plan_for, question_for, submit
from pllm_notebook.ensemble.verdicts import DECISION_MAKER_PROMPT, ballot, verdict_type
from pllm_notebook.ensemble.votes import Tally, Vote

__all__ = [
    "DECISION_MAKER_PROMPT",
    "Decision",
    "EnsembleCourse",
    "How",
    "Member",
    "Plan",
    "Question",
    "Tally",
    "Vote",
    "ballot",
    "estimate",
    "lines",
    "plan_for",
    "question_for",
    "submit",
    "verdict_type",
]
