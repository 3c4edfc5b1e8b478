"""The table of readers: the first that recognises a file reads it, so the particular ones stand before the general."""

from __future__ import annotations

from clipcal.logs.log import Reader
from clipcal.logs.readers import (
    coqui,
    databases,
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
    offline,
    parlai,
    parquet,
    sacred,
    skorch,
    swanlab,
    swin,
    tensorboard,
    tensorboard_json,
    visualdl,
    wandb_run,
)

_BY_FIRST_BYTES = (tensorboard, wandb_run, swanlab, parquet, visualdl)
_OF_TRACKERS = (databases.MLFLOW, databases.TRACKIO, databases.NEPTUNE, offline.CLEARML, offline.COMET, offline.NEPTUNE)
_JSON_DOCUMENTS = (huggingface, tensorboard_json, sacred, skorch, json_columns)
_JSON_LINES = (fairseq, mmcv, epochs)  # fairseq's may stand in any text
_TEXT = (marian, llmc, coqui, swin, megatron, espnet, parlai, huggingface_console, metriclogger)
_WHATEVER_NAMES_ITS_VALUES = (jsonlines, lightning, delimited, keyed)
READERS: tuple[Reader, ...] = (
    *(module.READER for module in _BY_FIRST_BYTES),
    *_OF_TRACKERS,
    *(module.READER for module in (*_JSON_DOCUMENTS, *_JSON_LINES, *_TEXT, *_WHATEVER_NAMES_ITS_VALUES)),
)
