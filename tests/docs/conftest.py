"""Small encoders and classifiers, as for the tests of interop."""

from tests.interop.conftest import make_classifier, make_encoder

__all__ = ["make_classifier", "make_encoder"]
