"""The paper's protocols on one cache: figures of an encoder beside those of its controls."""

from slim_fast.evaluation.protocols.finetune import evaluate_finetuning, evaluate_transfer
from slim_fast.evaluation.protocols.knn import evaluate_knn
from slim_fast.evaluation.protocols.linear import evaluate_linear
from slim_fast.evaluation.protocols.semi import evaluate_semi
from slim_fast.evaluation.protocols.task import Figures, Settings, Task

__all__ = [
    "Figures",
    "Settings",
    "Task",
    "evaluate_finetuning",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_semi",
    "evaluate_transfer",
]
