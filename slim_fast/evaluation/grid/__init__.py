"""The paper's grid of linear classifiers on frozen features, trained as one batched problem."""

from slim_fast.evaluation.grid.classifiers import Bank, Grid, Reading, readings_of
from slim_fast.evaluation.grid.files import load_grid, save_grid
from slim_fast.evaluation.grid.train import BATCH, RATES, train_grid

__all__ = [
    "BATCH",
    "RATES",
    "Bank",
    "Grid",
    "Reading",
    "load_grid",
    "readings_of",
    "save_grid",
    "train_grid",
]
