"""Pickles as PYSKL writes them."""

import pickle


def save(path, annotations, split=None, protocol: int = 4):
    path.write_bytes(
        pickle.dumps(
            {"split": {} if split is None else split, "annotations": annotations}, protocol
        )
    )
    return path
