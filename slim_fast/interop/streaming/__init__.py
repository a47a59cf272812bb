"""Predictions for a live pose source."""

from slim_fast.interop.streaming.stream import Prediction, Stream

__all__ = ["Prediction", "Stream"]
