"""A small encoder and classifier, and the ONNX files made of them."""

from pathlib import Path

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.export import main
from slim_fast.interop.export import export_onnx
from slim_fast.model.encoder import EncoderConfig

SMALL = EncoderConfig(width=16, depth=2, heads=2, registers=2)


def made(kind, *arguments, **options):
    """A model whose every weight matters, the same whenever it is made."""
    torch.manual_seed(3)
    model = kind(*arguments, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def answers(model, x: torch.Tensor) -> list[torch.Tensor]:
    """What the encoder or classifier itself says, in the shapes of the exported outputs."""
    with torch.no_grad():
        if isinstance(model, SLiMClassifier):
            return [model(x)]
        out = model.forward_features(x)
    people = out["people"].shape
    return [
        out["x_norm_clstoken"].view(*people, -1),
        out["x_norm_patchtokens"].unflatten(0, people),
        out["people"],
    ]


@pytest.fixture(scope="session")
def encoder() -> SLiMEncoder:
    return made(SLiMEncoder, "ntu-25", config=SMALL)


@pytest.fixture(scope="session")
def classifier() -> SLiMClassifier:
    return made(SLiMClassifier, 4, "coco-17", "xyc", SMALL)


@pytest.fixture(scope="session")
def encoder_onnx(encoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new" / "encoder.onnx"
    exported = export_onnx(encoder, path)
    assert exported.path == path
    assert exported.axes == {
        "x": ("B", 3, "8*t", 25, "M"),
        "cls": ("B", "M", 16),
        "patches": ("B", "M", "25*t", 16),
        "present": ("B", "M"),
    }
    assert exported.errors.keys() == {"cls", "patches", "present"}
    assert 0 < exported.errors["patches"] < 1e-4
    return path


@pytest.fixture(scope="session")
def classifier_onnx(classifier, tmp_path_factory) -> Path:
    """Through the command line, which finds out that it is a classifier; of the oldest opset."""
    run = tmp_path_factory.mktemp("run")
    classifier.save_pretrained(run / "encoder")
    assert main([str(run), "--to", "onnx", "--opset", "17", "--no-check"]) == 0
    return run / "classifier.onnx"
