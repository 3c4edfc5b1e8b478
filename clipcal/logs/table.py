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

_BY_FIRST_BYTES = (tensorboard, wandb_run, parquet)
_JSON_DOCUMENTS = (huggingface, tensorboard_json, sacred, json_columns)
_JSON_LINES = (fairseq, mmcv, epochs)  # fairseq's may stand in any text
_TEXT = (marian, llmc, coqui, swin, megatron, espnet, parlai, huggingface_console, metriclogger)
_WHATEVER_NAMES_ITS_VALUES = (jsonlines, lightning, delimited, keyed)
READERS: tuple[Reader, ...] = tuple(
    module.READER for module in (*_BY_FIRST_BYTES, *_JSON_DOCUMENTS, *_JSON_LINES, *_TEXT, *_WHATEVER_NAMES_ITS_VALUES)
)
