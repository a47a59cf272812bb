"""What several tests of npz readers write into their files."""

import numpy as np


def one_hot(labels, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float64)[labels]
