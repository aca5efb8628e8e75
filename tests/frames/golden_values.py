"""The same values in a column of every dataframe library: 17 types, their texts and their golden keys."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = ["AT", "KEYS", "TEXTS", "TYPES", "frames"]

BERLIN = ZoneInfo("Europe/Berlin")
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 6)
NS = np.datetime64("2026-01-02T03:04:05.000000006", "ns")

# One column each: the values, and what pandas, Polars and Arrow hold them as.
# The dtype of text from pandas 3 on; before, "str" makes a text of a missing value.
TEXT = "str" if pd.__version__ >= "3" else "string"

TYPES: dict[str, tuple[Sequence[Any], Any, Any, Any]] = {
    "text": (["a", None], TEXT, pl.String, pa.string()),
    "category": (["a", None], "category", pl.Categorical, pa.dictionary(pa.int32(), pa.string())),
    "int64": ([3, None], "Int64", pl.Int64, pa.int64()),
    "uint8": ([7, 8], "uint8", pl.UInt8, pa.uint8()),
    "float64": ([0.1, float("nan")], "float64", pl.Float64, pa.float64()),
    "float32": ([0.1, float("nan")], "float32", pl.Float32, pa.float32()),
    "boolean": ([True, None], "boolean", pl.Boolean, pa.bool_()),
    "date": ([dt.date(2026, 1, 2), None], "object", pl.Date, pa.date32()),
    "datetime": ([AT, None], "datetime64[us]", pl.Datetime("us"), pa.timestamp("us")),
    "moment": ([AT.replace(tzinfo=BERLIN), None], "datetime64[us, Europe/Berlin]",
               pl.Datetime("us", "Europe/Berlin"), pa.timestamp("us", "Europe/Berlin")),
    "nanoseconds": ([NS, None], "datetime64[ns]", pl.Datetime("ns"), pa.timestamp("ns")),
    "time": ([dt.time(3, 4), None], "object", pl.Time, pa.time64("us")),
    "duration": ([dt.timedelta(seconds=90), None], "timedelta64[us]", pl.Duration("us"), pa.duration("us")),
    "decimal": ([decimal.Decimal("1.10"), None], "object", pl.Decimal(10, 2), pa.decimal128(10, 2)),
    "bytes": ([b"\x00a", None], "object", pl.Binary, pa.binary()),
    "list": ([["a", None], None], "object", pl.List(pl.String), pa.list_(pa.string())),
    "struct": ([{"x": 1, "y": "b"}, None], "object", pl.Struct({"x": pl.Int64, "y": pl.String}),
               pa.struct([("x", pa.int64()), ("y", pa.string())])),
}  # fmt: skip

# Golden: each is part of the keys of answers that people have paid for.
TEXTS = {
    "text": "a",
    "category": "a",
    "int64": "3",
    "uint8": "7",
    "float64": "0.1",
    "float32": "0.1",
    "boolean": "true",
    "date": "2026-01-02",
    "datetime": "2026-01-02T03:04:05.000006",
    "moment": "2026-01-02T03:04:05.000006+01:00",
    "nanoseconds": "2026-01-02T03:04:05.000000006",
    "time": "03:04:00",
    "duration": "0 days 00:01:30",
    "decimal": "1.10",
    "bytes": "AGE=",
    "list": '["a",null]',
    "struct": '{"x":1,"y":"b"}',
}


# Golden ids of the first row's call, of the prompt `{t}` and of the row as labelled data: `p1-` and the key under which
# an answer that was paid for is found again.
KEYS = {
    "text": (
        "p1-aefUMP03ATgdnwj95OWUCi371cu2KmU45a1txC1vKlg",
        "p1-2f6xic2vUaCvACF5WoeBh1mCqJ3ArC9PgXmAXgMloiU",
    ),
    "category": (
        "p1-aefUMP03ATgdnwj95OWUCi371cu2KmU45a1txC1vKlg",
        "p1-2f6xic2vUaCvACF5WoeBh1mCqJ3ArC9PgXmAXgMloiU",
    ),
    "int64": (
        "p1-ENARao-OISwzmaCxhXX-y1CBrxTPywgo7FJJQA59am0",
        "p1-te7y3LjCKFH2ruGV4F03dvOiEDsVlzIJR7-vmkFtOdU",
    ),
    "uint8": (
        "p1-H9gqm-P0MxXH4FtJysJw_biClcu-Ap5h1mAqi-SamvQ",
        "p1-rpqi4hc1gboT-eLBT2rBsEH6fnaACLkPS7qYr3Q1Nuw",
    ),
    "float64": (
        "p1-aY1XT8uw0g5JCDdd6BST_3cEeFhGIxNm4eHjN-g1Hdk",
        "p1-_NWYQFmSPbm9IB2MYDSW3PnLhcjTpcpKgUDe8NmPGxo",
    ),
    "float32": (
        "p1-aY1XT8uw0g5JCDdd6BST_3cEeFhGIxNm4eHjN-g1Hdk",
        "p1-_NWYQFmSPbm9IB2MYDSW3PnLhcjTpcpKgUDe8NmPGxo",
    ),
    "boolean": (
        "p1-HE_lrfqwav3bOEruNfUCgaisSGCyeaVLus-uh6p_AuA",
        "p1-1VkCePMvHk4BhL0XDf81zm9IFfxeE_rc7vO12DfVHtQ",
    ),
    "date": (
        "p1-7xXsXNRM_qLe1pVuc-Wl6S_Xq_9wLXAUypflU9t2rxE",
        "p1-U3fINqmxQV1WnkNe9v4gLOGYvf_gL3WPHkN5pX2Gack",
    ),
    "datetime": (
        "p1-D7UiXu6vKmnbheMHGoKAa92j09AYGAwVKH3SdkDbTtg",
        "p1-0ktCd_bgcQhEK44oQq3Io3HPXRkRcpmc23-0lpgio7E",
    ),
    "moment": (
        "p1-T0R3dw4Y6sjoKMwFunmk3K2fK9W3Q87kkd4_PMwKeNA",
        "p1-Vu5taDPQ25mFXpc6gdUc1uEJLadOoS1NEqf94TUcohw",
    ),
    "nanoseconds": (
        "p1-URJpGthb3Nuu-6A_EDcdxvFY2C8wFJ1f7iPfUwu4AaI",
        "p1-_C1piFGZpF009hWhW0j_C-lRmoOurF1KUjCmg_lMf4A",
    ),
    "time": (
        "p1-KoaOVHZDELbxfInUvzpgdUFShzuplXapwQvbg43t-os",
        "p1-Z8ooTsNhc230dcmQ3vrSW3iqKOR4DhZ8GKfnjd_SPhI",
    ),
    "duration": (
        "p1-gT3gOvcj4pBfzLgZIdStvvKr7cZDrkZ0Fh68jtBCzTg",
        "p1-MsnoG5PoprmuPzB3JcLHhePlZmzbOfQRb10eE_j56ac",
    ),
    "decimal": (
        "p1--GcTFdDP-R6DwC8c1XayNPKU5Y4hUGPVgD9UfL-hgbQ",
        "p1-wqr2nvv6gzaZe4OwUwBZJnRB9hEHi3LFldRtQyiqiI8",
    ),
    "bytes": (
        "p1-2ys-uIMuYaurH9AEhbUfPdKnhex5EsboQkTRaTtHUBo",
        "p1-SXTtrUNg9xB00x_fcXvNiaALR1zD69RMwQDaBegdGMQ",
    ),
    "list": (
        "p1-Auho_B5TcK3USXNCSAjc04jjp76OWU2T4LfDXuFPQwk",
        "p1-yJ3hbEyc-D-u6SfOjVnc77lvN01WOx1fR7e40TaF0ik",
    ),
    "struct": (
        "p1-1PEPV952K_-QZezbhIbUb2yxDiUu9TNt7x9H2K6n1u4",
        "p1-5-b9tVCitH00owHA6Oqq0hig_ZODpFCW7xZCOKG2qDI",
    ),
}


def pandas_frame(name: str) -> pd.DataFrame:
    values, dtype, _, _ = TYPES[name]
    series = pd.Series(list(values), dtype="object")
    return pd.DataFrame({"t": series if dtype == "object" else series.astype(dtype)})


def polars_frame(name: str) -> pl.DataFrame:
    values, _, dtype, _ = TYPES[name]
    if name == "nanoseconds":  # of which Polars takes no scalar
        return pl.DataFrame({"t": np.array(values, dtype="datetime64[ns]")}).with_columns(
            pl.when(pl.col("t").is_not_null()).then("t")
        )
    return pl.DataFrame([pl.Series("t", list(values), dtype=dtype)])


def arrow_table(name: str) -> pa.Table:
    values, _, _, kind = TYPES[name]
    if pa.types.is_dictionary(kind):
        return pa.table({"t": pa.array(values, type=kind.value_type).dictionary_encode()})
    return pa.table({"t": pa.array(values, type=kind)})


def frames(name: str) -> dict[str, Any]:
    made = {"pandas": pandas_frame(name), "polars": polars_frame(name), "arrow": arrow_table(name)}
    made["pandas with ArrowDtype"] = made["arrow"].to_pandas(types_mapper=pd.ArrowDtype)
    made["polars in chunks"] = pl.concat([made["polars"][:1], made["polars"][1:]], rechunk=False)
    return made
