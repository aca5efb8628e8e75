"""JSONL files of requests: read, sent in chunks, and written as JSONL results.

A line is a complete request in some provider's format, sent unchanged. A file may have any number of lines, so a line
takes only a few bytes of memory until it is sent:

    index_of(path)                  read once: the offset and the model of each line
    for each model:                 no model waits for another
        for each wave:              lines that differ only in their output limit go in separate waves
            a window of chunks      a chunk is a run over some thousand lines, read again from the file
    ResultWriter                    writes each line's result as it arrives, in its own thread
    ResultsFile.put_in_order()      when every line has a result

| module               | holds                                                                |
| -------------------- | -------------------------------------------------------------------- |
| `process_file`       | the public functions and their configuration                         |
| `open_file_run`      | reads and checks everything before anything is sent or written       |
| `request_index`      | the offsets of lines and results, and the lines of each model        |
| `line_formats`       | OpenAI's, Anthropic's and Google's lines, and bare bodies            |
| `endpoints`          | the model of each line                                               |
| `output_limit_waves` | lines that differ only in their output limit                         |
| `file_run`           | the run of a file: its display, stop and end                         |
| `model_lines`        | the lines of one model, in a window of chunks (`execution.RunWindow`)|
| `chunks`             | some lines as a run                                                  |
| `result_writer`      | results, written as they arrive                                      |
| `results_file`       | the file of results: locked, whole lines, sorted at the end          |
| `file_status`        | lines, counted by result                                             |
| `prepare_requests`   | a list of prompts as a request file                                  |
| `parse_results`      | a results file as outputs                                            |

Invariants:

- A line has exactly one result, also after interruptions: the results file shows which lines are done.
- A result is written after its reply is in the cache, from which the writer reads it.
- Open lines, and chunks that wait for a late line, are bounded for each model.
- If a model refuses every line (because of its key, name or credit), only its own lines fail.
- Lines that the budget does not cover have no result and are left for the next run.
"""
