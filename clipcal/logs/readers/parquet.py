"""A Parquet table, such as W&B's history of a run -> rows. Needs pyarrow, an extra."""

from __future__ import annotations

from clipcal.errors import InputError
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

_MAGIC = b"PAR1"
_BATCH = 16_384  # rows


def _read(source: Source) -> Log:
    try:
        import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]
        from pyarrow import parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise InputError(
            f"{source.path}: is a Parquet file, which pyarrow reads, and that is not installed. Run "
            "pip install 'clipcal[parquet]'"
        ) from None
    rows = Rows()
    types = pyarrow.types
    try:
        with parquet.ParquetFile(source.path) as file:
            paths = (file.schema.column(i).path for i in range(len(file.schema)))
            wanted = [path for path in paths if kind_of(path) != "other"]
            for batch in file.iter_batches(_BATCH, columns=wanted) if wanted else ():
                table = pyarrow.Table.from_batches([batch])
                while any(types.is_struct(column.type) for column in table.schema):
                    table = table.flatten()  # nested columns: their names are joined by dots
                columns = {
                    column.name: table.column(i).cast(pyarrow.float64(), safe=False).to_pylist()
                    for i, column in enumerate(table.schema)
                    if types.is_integer(column.type) or types.is_floating(column.type) or types.is_decimal(column.type)
                }
                for values in zip(*columns.values(), strict=True):
                    rows.add(dict(zip(columns, values, strict=True)))
    except (pyarrow.ArrowException, OSError, ValueError) as e:
        why = str(e).partition("\n")[0][:200]
        raise InputError(
            f"{source.path}: is a Parquet file that cannot be read ({why}). Copy it again, as a whole and unpacked."
        ) from None
    return rows.log("Parquet table")


READER = Reader(
    title="Parquet table",
    recognises=lambda source: source.head.startswith(_MAGIC),
    read=_read,
    norms="log what torch.nn.utils.clip_grad_norm_ returns as train/grad_norm at every step, beside the loss",
)
