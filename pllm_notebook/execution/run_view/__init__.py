"""What a person sees of a run: its state at one moment as plain data, and what changed since.

`RunViewModel.snapshot` returns all sections; each is a dict or a list of what JSON has::

    {
      "run": "3f2a91c4",              # the run's id
      "texts": true,                  # false: no section has text of rows (progress="bar")
      "head": {                       # one moment
        "label": "Review", "model": "openai:gpt-6-luna", "simulated": false, "unit": "row",
        "batch": false, "stop": "Stop", "stop_says": "Stop, and keep …", "retry": "",  # words of the buttons
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
                  "more_input": 0, "more_output": 18},   # those that a row does not show
      "sample": [                     # newest first, at most 50
        {"row": 17, "label": "17", "status": "ok", "input": ["Great …"], "values": ["positive", 5],
         "message": "", "cost_usd": 0.00003, "latency_s": 0.81, "confidence": null, "simulated": false}
      ],
      "pinned": [...],                # rows of the same form that a person keeps in sight
      "marks": {"17": "wrong"},       # what people said of rows here: "right" or "wrong"
      "fields": [                     # of all answers, or an even sample of `counted` of them
        {"name": "sentiment", "kind": "categories", "counted": 412, "missing": 0, "of": "",
         "bars": [{"label": "positive", "count": 300}, ...], "more": 0},
        {"name": "score", "kind": "numbers", "counted": 412, "missing": 2, "of": "",
         "bars": [...], "low": 1, "high": 5, "mean": 3.9}    # "of": "characters" or "items" for lengths
      ],
      "failures": [                   # by kind, most frequent first
        {"kind": "timeout", "count": 2, "message": "No answer in 60 s.", "rows": [3, 9], "labels": ["3", "9"],
         "can_pass": true, "can_retry": true, "price_usd": 0.00006}   # of asking again, null for unknown
      ],
      "jobs": [                       # of a batch; times in seconds since 1970
        {"job": "dbc3f0a1", "state": "running", "requests": 3000, "answered": 12, "failed": 0, "created_at": 1764000000,
         "ends_at": 1764086400, "price_usd": 0.12, "open": true, "message": ""}
      ],
      "pace": {"every_s": 1.0, "rows": [20.0, 22.5], "usd": [0.001, 0.002], "held": [1]}  # held: indexes
    }

Counts of rows add up: `done + cached + failed + not_sent + skipped + pending == total`. Fields are counted from the
answers that a display has looked at, at most a thousand at each look; `failures` are exact.

A `RunViewUpdates` gives one viewer what changed: the same dict with the changed sections alone, where `sample`
holds the new rows alone.
"""
