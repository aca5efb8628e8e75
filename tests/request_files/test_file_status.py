"""The status of a request file, by its present and its former names."""

from __future__ import annotations

from pllm_notebook.request_files.file_status import FileStatus


def test_lines_that_were_not_sent_are_found_by_the_former_name() -> None:
    status = FileStatus("r.jsonl", 5, 0, 3, 0, 3, 0, 0, 0, 0, not_sent=2, cached=0, cost_usd=0.0)

    assert status.put_off == status.not_sent == 2
    assert not status.complete
