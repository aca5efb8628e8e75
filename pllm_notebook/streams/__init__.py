"""Tables one after the other, in bounded memory.

A table is a run of its own (`execution.execute`), so limits, cached answers, repairs and failures are those of
`df.llm.parse`, and two streams at once share them as two runs do. What a stream adds is a window of runs
(`execution.RunWindow`, which request files have as well), taken in order:

    window.fill(started)                  while more rows are wanted, the next piece is read, and its run starts
    while window.head is not None:
        yield window.take()               the first one that was started, when it has ended; nothing holds it then
        window.fill(started)
    window.finish()                       one warning, or the error that ended it

Closing a stream early cancels what is going, and waits until what has arrived is stored.

| module            | holds                                                              |
| ----------------- | ------------------------------------------------------------------ |
| `batches`         | `parse_batches` and `aparse_batches`: frames in, frames out        |
| `dataset_run`     | `parse_dataset`: rows in, part files out                           |
| `dataset`         | what a directory of parts holds: progress, failures, retry         |
| `dataset_source`  | what a dataset is made from: pieces, each the rows of one part     |
| `parquet_source`  | Parquet files and their pieces                                     |
| `stream_source`   | LazyFrames, and what streams Arrow data                            |
| `manifest`        | what a dataset's parts are answers to                              |
| `part_answers`    | the answers to the rows of a part, written when all have arrived   |
| `part_files`      | the directory of the parts: each there whole or not at all         |
| `dataset_retry`   | failed rows of the parts, asked again                              |
| `table_window`    | the tables whose runs go: their display, and the end of the whole  |

Invariants:

- A piece is taken in the order in which it was added, whatever ends first.
- At most three times the wanted rows are held, so a late row delays, and does not fill the memory.
- A run that was taken is known to nothing of this package but the registry on disk: when its frame goes, so does
  everything else. A cycle would keep it until Python looks for garbage, which it rarely does while runs are going.
- An error of the source, or of a piece that cannot be asked, comes after the answers of what was started before it.
- One thread adds and takes. Stopping may come from any: the display's Stop button is on another.
- A sum of counts is all that is left of a run that was taken, so a display of the whole costs the same at the
  thousandth table as at the first.
- A part file of a dataset is there whole, with an outcome for every row, or not at all; one that is there is done, and
  not read. Its name follows from its piece, so no order of events changes it.
- What the money does not suffice for ends the stream: the pieces that were started are answered as far as they can be,
  and nothing further is read.

What a run costs beside its rows (a thread's turn, a look into the store, a record in the registry) is a few
milliseconds, so tables of some hundreds of rows are as fast as one run; see docs/performance.md.

The room is above `frames`, since a piece is a frame of any library that has an adapter; it imports none of them.
"""

from pllm_notebook.streams.batches import aparse_batches, parse_batches
from pllm_notebook.streams.dataset import Dataset, open_dataset
from pllm_notebook.streams.dataset_run import parse_dataset

__all__ = ["Dataset", "aparse_batches", "open_dataset", "parse_batches", "parse_dataset"]
