"""Streams of tables, in bounded memory.

Each table is a run (`execution.execute`), so limits, cached answers, repairs and failures are those of
`df.llm.parse`, and two concurrent streams share them as two runs do. A stream adds a window of runs
(`execution.RunWindow`, also used by request files), taken in order:

    window.fill(started)                  while more rows are wanted, the next piece is read, and its run starts
    while window.head is not None:
        yield window.take()               the oldest run, once it has ended; nothing refers to it afterwards
        window.fill(started)
    window.finish()                       one warning, or the error that ended it

Closing a stream early cancels the calls in flight and waits until the answers that have arrived are stored.

| module            | holds                                                              |
| ----------------- | ------------------------------------------------------------------ |
| `batches`         | `parse_batches` and `aparse_batches`: frames in, frames out        |
| `dataset_run`     | `parse_dataset`: rows in, part files out                           |
| `dataset`         | a directory of parts: progress, failures, retry                    |
| `dataset_source`  | the source of a dataset: pieces, each with the rows of one part    |
| `parquet_source`  | Parquet files and their pieces                                     |
| `stream_source`   | LazyFrames and streams of Arrow data                               |
| `manifest`        | the question that a dataset's parts answer                         |
| `part_answers`    | the answers to the rows of a part, written when all have arrived   |
| `part_files`      | the directory of the parts, each written completely or not at all  |
| `dataset_retry`   | retry of failed rows of the parts                                  |
| `table_window`    | the running tables: their display, and the end of the stream       |

Invariants:

- Pieces are taken in the order in which they were added, regardless of which ends first.
- At most three times the wanted rows are held, so a late row delays the stream but does not fill the memory.
- After a run is taken, only the registry on disk knows it: the run is freed together with its frame. A reference cycle
  would keep it until Python collects garbage, which rarely happens during runs.
- An error of the source, or of an invalid piece, is raised after the answers of the pieces started before it.
- One thread adds and takes. Any thread may stop the stream: the display's Stop button is on another.
- Of a taken run only the sum of its counts is kept, so the display costs the same at the thousandth table as at the
  first.
- A part file of a dataset is complete, with an outcome for every row, or does not exist. An existing one is done and is
  not read. Its name follows from its piece, so the order of events does not change it.
- An exhausted budget ends the stream: the started pieces are answered as far as possible, and nothing more is read.

The fixed overhead of a run (a thread switch, a store lookup, a registry record) is a few milliseconds, so tables of a
few hundred rows are as fast as one run; see docs/performance.md.

This package is a layer above `frames`, because a piece is a frame of any library with an adapter. It imports none of
these libraries.
"""

from pllm_notebook.streams.batches import aparse_batches, parse_batches
from pllm_notebook.streams.dataset import Dataset, open_dataset
from pllm_notebook.streams.dataset_run import parse_dataset

__all__ = ["Dataset", "aparse_batches", "open_dataset", "parse_batches", "parse_dataset"]
