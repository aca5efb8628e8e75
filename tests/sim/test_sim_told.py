"""What replies tell of limits is the state at admission, as providers have it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


def test_remaining_is_told_as_of_admission_and_not_of_the_reply(sim, gpt):
    sim.set(requests_per_min=6, burst_s=100, latency_s=0.5)  # ten at once, and then one in ten seconds

    def remaining(n):
        reply = gpt.chat.completions.with_raw_response.create(
            model="gpt-6-luna", messages=[{"role": "user", "content": f"hi {n}"}]
        )
        return int(reply.headers["x-ratelimit-remaining-requests"])

    with ThreadPoolExecutor(5) as pool:
        told = sorted(pool.map(remaining, range(5)))

    assert told == [5, 6, 7, 8, 9]
