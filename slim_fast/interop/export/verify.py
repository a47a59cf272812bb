"""Exported programs against the model that they were made of."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.export.module import ExportModule

Run = Callable[[Tensor], Sequence[Tensor]]
"""Clips (B, C, T, V, M) to the outputs of `ExportModule`, in their order."""
TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest value."""
# (B, T / patch_frames, M): traced programs often fail at sizes of 1.
_CHECKED = ((1, 1, 1), (2, 1, 3), (3, 8, 2), (1, 15, 2), (2, 4, 1))


def check(model: SLiMEncoder, run: Run, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Compare `run` with `model` on random clips of several B, T and M, with empty people.

    Returns, for each output, the largest error, relative to the output's largest value.
    Raises: UserError when one is above `tolerance` or an output has another shape.
    """
    generator = torch.Generator().manual_seed(0)
    errors = dict.fromkeys(ExportModule(model).axes, 0.0)
    for batch, times, people in _CHECKED:
        shape = (batch, model.channels, times * model.config.patch_frames, model.joints, people)
        x = torch.randn(shape, generator=generator)
        x[-1, ..., 1:] = 0
        with torch.no_grad():
            outputs = zip(errors, run(x), _expected_outputs(model, x), strict=True)
        for name, got, want in outputs:
            if got.shape != want.shape:
                raise UserError(
                    f"The exported program is wrong: {name} is {tuple(got.shape)} for clips "
                    f"{shape}."
                )
            want = want.float()
            error = float((got.float() - want).abs().max() / want.abs().max().clamp_min(1e-30))
            if not error <= tolerance:  # NaN is wrong too
                raise UserError(
                    f"The exported program is wrong: for clips {shape} {name} is off by "
                    f"{error:.1e} of its largest value (allowed: {tolerance:.0e}); try another "
                    "opset or version of PyTorch."
                )
            errors[name] = max(errors[name], error)
    return errors


def _expected_outputs(model: SLiMEncoder, x: Tensor) -> list[Tensor]:
    """The model's own outputs, in the shapes of `ExportModule`'s."""
    # Adapters, its subclasses, may take other layouts.
    if isinstance(model, SLiMClassifier):
        return [SLiMClassifier.forward(model, x)]
    tokens = SLiMEncoder.forward_features(model, x)
    people = tokens["people"]
    cls, patches = (
        tokens[name].unflatten(0, people.shape)
        for name in ("x_norm_clstoken", "x_norm_patchtokens")
    )
    return [cls, patches, people]
