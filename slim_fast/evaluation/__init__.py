"""Evaluation of frozen features by k-NN and by a linear classifier."""
