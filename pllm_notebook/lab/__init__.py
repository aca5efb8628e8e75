"""The prompt lab: what a change of prompt, model or schema did to the answers, and what people say of them.

It is above the frames that it compares, and uses the registry of runs: answers of any earlier run are read from
the cache, so that comparing sends nothing. The methods of `df.llm` reach it through `lab_registry`.

| module              | holds                                                                  |
| ------------------- | ---------------------------------------------------------------------- |
| `row_matching`      | `df.llm.compare`: matches the rows of two sides by content              |
| `prompts_compared`  | `pllm.compare`: asks several prompts about the same rows                |
| `answer_sides`      | the answers of a frame or a run, with their status                      |
| `earlier_runs`      | which run "previous", a date or an id means                             |
| `comparison`        | the result: rows, figures, views                                        |
| `field_changes`     | churn, directions of change and distributions by field                  |
| `labelled_change`   | which side is right more often                                          |
| `paired_tests`      | the tests and intervals                                                 |
| `sampling_noise`    | what asking twice changes                                               |
| `question_diff`     | words, schemas and options that differ                                  |
| `run_costs`         | what answers cost and took                                              |
| `recheck_run`       | `df.llm.recheck`: rows are asked again, each twice                      |
| `recheck_pairs`     | the answers of earlier rechecks                                         |
| `drift`             | the result: whether the model still answers as it did                  |
| `report`            | `df.llm.report`: what was asked, answered, labelled and tried           |
| `report_facts`      | question, models, rows, failures, cost, confidence, as plain data       |
| `label_facts`       | who labelled, how rows were drawn, how right the answers are            |
| `corrected_groups`  | means and shares by group, corrected by labels                          |
| `label_chances`     | with which chance each labelled row counts                              |
| `class_scores`      | precision, recall, F1 by class, and macro-F1 with its interval          |
| `methods_text`      | the paragraph for a paper                                               |
| `report_page`       | the report as one HTML file                                             |
| `bundle`            | what rebuilds a frame elsewhere: replies, registry entry, labels        |
| `bundle_texts`      | its README, script and versions                                         |
| `bundle_reading`    | `pllm.open_bundle`                                                      |
| `comparisons_made`  | how many questions were tried                                           |
| `review_queue`      | which rows a person looks at, and with which chance each is drawn       |
| `review`            | `df.llm.review`: decisions one by one, each stored at once              |
| `race_run`          | `df.llm.race`: which prompt, model and effort                           |
| `race_arms`         | what is raced                                                           |
| `race_rounds`       | the same rows to several arms, under one ceiling                        |
| `race`, `race_picture` | the result, and its pictures                                         |
| `improve_run`       | `df.llm.improve`: a better prompt, and its gain on held-out rows        |
| `prompt_search`     | proposals and the choice among them, by gepa                           |
| `called_back`       | a library that blocks and calls back, as steps                         |
| `prompt_trials`     | what a prompt answers about labelled rows                              |
| `improvement`       | the result                                                             |
| `shared_runs`       | runs with one ceiling, one display and one stop                        |
| `labelled_questions` | labelled rows as distinct questions, in an order of their own          |

Invariants:

- A row is matched by the content of the columns that a side was asked about, never by its index or place.
- Equal rows share one call, so they change together: every test and interval counts them as one observation.
- A row that failed is wrong, and is shown. Leaving it out would compare the easy rows alone.
- A figure is never better than its sample: a difference that was not found is shown with the one that could have been.
"""

from pllm_notebook.lab.bundle_reading import open_bundle
from pllm_notebook.lab.comparison import Comparison
from pllm_notebook.lab.drift import Drift, FieldDrift
from pllm_notebook.lab.field_changes import FieldChange, Move
from pllm_notebook.lab.improve_run import improve_table
from pllm_notebook.lab.improvement import Improvement
from pllm_notebook.lab.labelled_change import LabelledChange
from pllm_notebook.lab.prompts_compared import Comparisons, acompare, compare
from pllm_notebook.lab.race import Race, RacedArm
from pllm_notebook.lab.race_arms import Arm
from pllm_notebook.lab.race_run import race_table
from pllm_notebook.lab.recheck_run import recheck_table
from pllm_notebook.lab.report import Report, report_table
from pllm_notebook.lab.review import Review, review_table
from pllm_notebook.lab.row_matching import compare_table

__all__ = [
    "Arm",
    "Comparison",
    "Comparisons",
    "Drift",
    "FieldChange",
    "FieldDrift",
    "Improvement",
    "LabelledChange",
    "Move",
    "Race",
    "RacedArm",
    "Report",
    "Review",
    "acompare",
    "compare",
    "compare_table",
    "improve_table",
    "open_bundle",
    "race_table",
    "recheck_table",
    "report_table",
    "review_table",
]
