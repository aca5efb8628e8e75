"""The prompt lab: measure the effect of a change of prompt, model or schema, and label, review and report answers.

The lab is a layer above frames. It reads the answers of earlier runs from the cache through the registry of runs, so
comparing sends nothing. The methods of `df.llm` call it through `lab_registry`.

| module              | holds                                                                  |
| ------------------- | ---------------------------------------------------------------------- |
| `row_matching`      | `df.llm.compare`: matches the rows of two sides by content              |
| `prompts_compared`  | `pllm.compare`: asks several prompts about the same rows                |
| `answer_sides`      | the answers of a frame or a run, with their status                      |
| `earlier_runs`      | the run that "previous", a date or an id refers to                      |
| `comparison`        | the result: rows, figures, views                                        |
| `field_changes`     | churn, directions of change and distributions by field                  |
| `labelled_change`   | which side is right more often                                          |
| `paired_tests`      | the tests and intervals                                                 |
| `sampling_noise`    | differences between two answers to the same question                    |
| `question_diff`     | differences in words, schemas and options                               |
| `run_costs`         | cost, tokens and latency of answers                                     |
| `recheck_run`       | `df.llm.recheck`: rows are asked again, each twice                      |
| `recheck_pairs`     | the answers of earlier rechecks                                         |
| `drift`             | the result: whether the model's answers have changed                   |
| `report`            | `df.llm.report`: questions, answers, labels and comparisons             |
| `report_facts`      | question, models, rows, failures, cost, confidence, as plain data       |
| `label_facts`       | who labelled, how rows were drawn, the accuracy of the answers          |
| `corrected_groups`  | means and shares by group, corrected by labels                          |
| `label_chances`     | the probability with which each labelled row was drawn                  |
| `class_scores`      | precision, recall, F1 by class, and macro-F1 with its interval          |
| `methods_text`      | the paragraph for a paper                                               |
| `report_page`       | the report as one HTML file                                             |
| `bundle`            | files to rebuild a frame elsewhere: replies, registry entry, labels     |
| `bundle_texts`      | its README, script and versions                                         |
| `bundle_reading`    | `pllm.open_bundle`                                                      |
| `comparisons_made`  | how many questions were tried                                           |
| `review_queue`      | the rows to review, and the probability with which each is drawn        |
| `review`            | `df.llm.review`: decisions one by one, each stored at once              |
| `race_run`          | `df.llm.race`: compare prompts, models and efforts                      |
| `race_arms`         | the competing combinations                                              |
| `race_rounds`       | the same rows for several arms, under one ceiling                       |
| `race`, `race_picture` | the result, and its plots                                            |
| `improve_run`       | `df.llm.improve`: a better prompt, and its gain on held-out rows        |
| `prompt_search`     | proposals and the choice among them, by gepa                           |
| `called_back`       | run a blocking library with callbacks as steps                         |
| `prompt_trials`     | answers of a prompt for labelled rows                                  |
| `improvement`       | the result                                                             |
| `shared_runs`       | runs with one ceiling, one display and one stop                        |
| `labelled_questions` | labelled rows as distinct questions, ordered by their content          |

Invariants:

- Rows are matched by the content of the columns that a side was asked about, never by index or position.
- Equal rows share one call and change together, so every test and interval counts them as one observation.
- A failed row counts as wrong and is shown. Leaving it out would compare only the easy rows.
- If no difference was found, the smallest difference that could have been found is shown with the result.
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
