"""The table of readers: the first that recognises a file reads it, so the particular ones stand before the general."""

from __future__ import annotations

from clipcal.logs.log import Reader
from clipcal.logs.readers import (
    coqui,
    delimited,
    epochs,
    espnet,
    fairseq,
    huggingface,
    huggingface_console,
    json_columns,
    jsonlines,
    keyed,
    lightning,
    llmc,
    marian,
    megatron,
    metriclogger,
    mmcv,
    parlai,
    parquet,
    sacred,
    swin,
    tensorboard,
    tensorboard_json,
    wandb_run,
)

READERS: tuple[Reader, ...] = (
    # known by their first bytes
    tensorboard.READER,
    wandb_run.READER,
    parquet.READER,
    # JSON documents
    huggingface.READER,
    tensorboard_json.READER,
    sacred.READER,
    json_columns.READER,
    # JSON lines; fairseq's may stand in any text
    fairseq.READER,
    mmcv.READER,
    epochs.READER,
    # text
    marian.READER,
    llmc.READER,
    coqui.READER,
    swin.READER,
    megatron.READER,
    espnet.READER,
    parlai.READER,
    huggingface_console.READER,
    metriclogger.READER,
    # whatever names its values
    jsonlines.READER,
    lightning.READER,
    delimited.READER,
    keyed.READER,
)
