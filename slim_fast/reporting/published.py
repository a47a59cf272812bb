"""Accuracies that the paper reports, by the splits that converted data sets have here.

Source: arXiv 2603.10648, the tables of linear evaluation and of cost; 1-NN of the weights that its
authors released in August 2026, measured with their protocol.
"""

from collections.abc import Mapping
from types import MappingProxyType

from slim_fast.evaluation.protocols.linear import BEST

_BY_ROW = {
    BEST: {"ntu60-xsub": 87.9, "ntu60-xview": 93.2, "ntu120-xsub": 81.2, "ntu120-xset": 83.6},
    "1-NN": {"ntu60-xsub": 72.3, "ntu60-xview": 89.8},
}
PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType(_BY_ROW)
"""Row of the accuracy table -> split -> per cent."""
OTHERS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "SkeletonMAE": {"ntu60-xsub": 74.8, "ntu60-xview": 77.7},
        "MAMP": {"ntu60-xsub": 84.9, "ntu60-xview": 89.1},
        "S-JEPA": {"ntu60-xsub": 85.3, "ntu60-xview": 89.8},
        "GFP": {"ntu60-xsub": 85.9, "ntu60-xview": 92.0},
    }
)
"""Linear accuracies of other methods in the paper's table of cost, per cent."""
