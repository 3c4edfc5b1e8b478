"""Callbacks that watch a training for people who would rather add an argument than a line: one module per framework.

``clipcal.integrations.huggingface.ClipcalCallback`` for transformers' Trainer and what builds on it (TRL, axolotl), and
``clipcal.integrations.lightning.ClipcalCallback`` for Lightning, ``clipcal.integrations.accelerate.watch`` for what Accelerate has
prepared. In plain loops call ``clipcal.watch`` with the model and the optimizer.
"""

from clipcal.errors import need_torch

need_torch("clipcal.integrations")
