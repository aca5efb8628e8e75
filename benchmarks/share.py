"""Cost of sharing an answer: writing it to a shared directory, and importing it from there.

    python -m benchmarks.share [--entries 20000] [--times 3] [--group 20]

CPU of one process with a directory on this machine, in turns: storing entries of 600 bytes without sharing, storing
and sharing them, and importing them elsewhere. Figures are medians. Entries are stored as fast as the store accepts
them, in its groups of a thousand; with --group in smaller groups, as in a run: two thousand answers a second make
groups of 20. The last line is the store's part of importing: one transaction per thousand rows, and their indexes.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial

from pllm_notebook.store import DiskStore
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

RAW = b'{"id": "chatcmpl-x", "choices": [{"message": {"content": "%s"}}]}' % (b"some words " * 50)


def entries(count: int) -> dict[str, StoredReply]:
    meta = b'{"usage":[9,3,0,0,0],"cost_usd":0.5,"model":"m","created_at":1000.0}'
    return {
        urlsafe_b64encode(hashlib.sha256(b"%d" % n).digest()).decode().rstrip("="): StoredReply(
            Finish.COMPLETE, b'{"answer": %d}' % n, 3, 0, meta, RAW
        )
        for n in range(count)
    }


def us_an_entry(count: int, work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) / count * 1e6


def keep(store: DiskStore, some: dict[str, StoredReply], group: int) -> None:
    for number, (key, entry) in enumerate(some.items(), 1):
        store.put(key, entry, lambda error: None)
        if group and number % group == 0:
            store.flush()
    store.flush()
    if store.share is not None:
        store.share.ship()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--group", type=int, default=0)
    args = parser.parse_args()
    some = entries(args.entries)
    alone, out, taken, bare = [], [], [], []
    for round_ in range(args.times + 1):  # the first round loads lazy imports
        with tempfile.TemporaryDirectory() as directory:
            stores = [DiskStore(f"{directory}/{name}") for name in ("alone", "first", "second", "bare")]
            for store in stores[1:3]:
                store.share_with(f"{directory}/common")
            alone.append(us_an_entry(args.entries, partial(keep, stores[0], some, args.group)))
            out.append(us_an_entry(args.entries, partial(keep, stores[1], some, args.group)) - alone[-1])
            taken.append(us_an_entry(args.entries, stores[2].take_in_shared))
            bare.append(us_an_entry(args.entries, partial(keep, stores[3], some, 0)))
            for store in stores:
                store.close()
            if not round_:
                for figures in (alone, out, taken, bare):
                    figures.clear()
    print(f"kept, not shared   {statistics.median(alone):6.1f} us an entry")
    print(f"shipped, besides   {statistics.median(out):6.1f}")
    print(f"taken in           {statistics.median(taken):6.1f}")
    print(f"of it, the store's {statistics.median(bare):6.1f}")


if __name__ == "__main__":
    main()
