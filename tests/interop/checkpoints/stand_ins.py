"""What other trainers keep beside tensors."""

import argparse
import collections
import datetime
import enum
import functools
import operator
import pathlib
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import torch
from torch import nn


class HistoryBuffer:
    """As mmengine's: an array, counts, and a class attribute of functions; its module is gone when
    it is read.
    """

    def __init__(self) -> None:
        self._log_history, self._count_history = np.arange(4.0), np.ones(4, np.int64)
        self._statistics_methods: OrderedDict[str, Any] = OrderedDict(mean=len)


class Level(enum.Enum):
    HIGH = 2


class Config(dict):  # type: ignore[type-arg]
    """As addict's: a dict with a state."""


def beside() -> dict[str, Any]:
    """All that trainers keep beside tensors."""
    return {
        "args": argparse.Namespace(lr=1e-3, layers=[1, 2], out=pathlib.PurePosixPath("/tmp/x")),
        "epoch": np.float64(3.5),
        "best": np.int64(4),
        "array": np.arange(3),
        "random": np.random.default_rng(0).bit_generator.state,
        "message_hub": {
            "log_scalars": OrderedDict(loss=HistoryBuffer()),
            "resumed_keys": OrderedDict(a=True),
        },
        "meta": {
            "time": datetime.datetime(2026, 1, 2),
            "cfg": Config(a=1),
            "seen": {1, 2},
            "kind": Level.HIGH,
        },
        "counts": collections.Counter("abc"),
        "default": collections.defaultdict(list, a=[1]),
        "queue": deque([1, 2]),
        "partial": functools.partial(operator.add, 1),
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": np.float32(1)}],
        },
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "device": torch.device("cpu"),
        "size": torch.Size([2, 3]),
        "module": nn.Linear(2, 2),
    }
