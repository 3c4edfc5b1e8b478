"""A rank other than 0 -> its part in every arm that rank 0 trains. It reads no command, writes no file, and prints what goes wrong."""

from __future__ import annotations

import os
import signal
import sys

import torch

from clipcal.errors import ClipcalError, RankLost, UserCodeError
from clipcal.run.source import source_of
from clipcal.sources.spec import from_source
from clipcal.sources.targets import importable_from
from clipcal.training.gradnorm import ClipRule
from clipcal.training.loop import train
from clipcal.training.parallel.group import group_here
from clipcal.training.parallel.leading import assemble, device_of
from clipcal.training.profiling import num_threads


def follow() -> int:
    """Until rank 0 is done; gives the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides, between two steps
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout carries the answer alone
    group = group_here()
    assert group is not None
    try:
        for order in group.orders():
            spec = from_source(source_of(order["source"]), seed=order["seed"], steps=order["steps"])
            rule = None if order["rule"] is None else ClipRule(**order["rule"])
            device = device_of(torch.device(order["device"]), group.ranks)
            with num_threads(order["threads"]), importable_from([spec.folder, spec.cwd]):
                parts = assemble(spec, seed=order["seed"], device=device, group=group)
                norm_type, lr_scale = spec.fields.clip.norm_type, order["lr_scale"]
                for _ in train(parts, steps=order["steps"], norm_type=norm_type, clip=rule, lr_scale=lr_scale):
                    pass
    except RankLost:
        return 0  # rank 0 says it, or is gone itself
    except ClipcalError as e:
        group.say_failed(str(e))
        if isinstance(e, UserCodeError) and e.user_traceback:
            print(e.user_traceback.rstrip() + "\n", file=sys.stderr)
        print(f"rank {group.ranks.rank}: error: {e}", file=sys.stderr, flush=True)
        return e.exit_code
    except Exception as e:
        if group.who_failed() is None:
            group.say_failed(f"{type(e).__name__}: {e}")
            raise
        return 0
    group.close()
    return 0
