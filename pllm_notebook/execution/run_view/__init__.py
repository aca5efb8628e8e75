"""The view of a run as plain data: a snapshot of its state, and the changes since.

`RunViewModel.snapshot` returns all sections; each is a dict or a list of JSON values::

    {
      "run": "3f2a91c4",              # the run's id
      "texts": true,                  # false: no section contains text of rows (progress="bar")
      "head": {                       # current state
        "label": "Review", "model": "openai:gpt-6-luna", "simulated": false, "unit": "row",
        "batch": false, "stop": "Stop", "stop_says": "Stop, and keep …", "retry": "",  # button texts
        "state": "sending",           # planning, sending, paused, held, waiting, done, unanswered, stopped, failed, ...
        "says": "sending",            # the state in words: "held by max_cost_usd: $0.04 reserved for 5 calls"
        "ended": false, "total": 3000, "done": 412, "cached": 10, "failed": 3, "not_sent": 0, "skipped": 0,
        "pending": 2575, "in_flight": 64, "rows_per_s": 21.4, "eta_s": 120.0, "elapsed_s": 20.1,
        "started_at": 1764000000.0, "cost_usd": 0.0123, "projected_usd": 0.089, "budget_usd": 5.0,
        "maybe_paid_requests": 0, "maybe_paid_usd": 0.0, "reserved_usd": 0.0, "tokens": 81234,
        "cached_tokens": 0, "input_tokens": 70000, "note": "",
        "can": {"stop": true, "pause": true, "go_on": false, "retry": 0,   # rows that a retry sends
                "retry_kinds": false}   # whether failures can be sent again, kind by kind
      },
      "columns": {"input": ["text"], "output": ["sentiment", "score"], "confidence": false,
                  "more_input": 0, "more_output": 18},   # number of columns that are not shown
      "sample": [                     # newest first, at most 50
        {"row": 17, "label": "17", "status": "ok", "input": ["Great …"], "values": ["positive", 5],
         "message": "", "cost_usd": 0.00003, "latency_s": 0.81, "confidence": null, "simulated": false}
      ],
      "pinned": [...],                # rows that the user pinned, in the same form
      "marks": {"17": "wrong"},       # the user's marks of rows: "right" or "wrong"
      "fields": [                     # charts of all answers, or of an even sample of `counted` answers
        {"name": "sentiment", "kind": "categories", "counted": 412, "missing": 0, "of": "",
         "bars": [{"label": "positive", "count": 300}, ...], "more": 0},
        {"name": "score", "kind": "numbers", "counted": 412, "missing": 2, "of": "",
         "bars": [...], "low": 1, "high": 5, "mean": 3.9}    # "of": "characters" or "items" for lengths
      ],
      "failures": [                   # by kind, most frequent first
        {"kind": "timeout", "count": 2, "message": "No answer in 60 s.", "rows": [3, 9], "labels": ["3", "9"],
         "can_pass": true, "can_retry": true, "price_usd": 0.00006}   # price of a retry, null for unknown
      ],
      "jobs": [                       # batch jobs; times in seconds since 1970
        {"job": "dbc3f0a1", "state": "running", "requests": 3000, "answered": 12, "failed": 0, "created_at": 1764000000,
         "ends_at": 1764086400, "price_usd": 0.12, "open": true, "message": ""}
      ],
      "pace": {"every_s": 1.0, "rows": [20.0, 22.5], "usd": [0.001, 0.002], "held": [1]}  # held: indexes
    }

The row counts add up: `done + cached + failed + not_sent + skipped + pending == total`. Fields are counted from the
answers that displays have collected, at most a thousand per update; `failures` are exact.

A `RunViewUpdates` returns the changes for one viewer: the same dict with only the changed sections, where `sample`
contains only the new rows.
"""
