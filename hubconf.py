"""torch.hub.load(this repository, "slim_encoder", source="local"): no installation needed."""

import sys
from pathlib import Path
from typing import Any

dependencies = ["torch", "numpy", "safetensors"]

_ROOT = Path(__file__).resolve().parent
# Imported packages find their modules without the search path; this repository's come first.
sys.path[:0] = [str(_ROOT), str(_ROOT / "kernels")]
try:
    import slim_kernels  # noqa: F401

    from slim_fast import SLiMClassifier, SLiMEncoder, UserError
finally:
    del sys.path[:2]


def slim_encoder(pretrained: Any = None, **options: Any) -> SLiMEncoder:
    """SLiMEncoder.from_pretrained(pretrained, **options), or SLiMEncoder(**options) without it.

    pretrained: a path or a hub name.
    Raises: UserError as these, and for True: no weights come with the code.
    """
    return _make(SLiMEncoder, pretrained, options)


def slim_classifier(pretrained: Any = None, **options: Any) -> SLiMClassifier:
    """As `slim_encoder`, a SLiMClassifier.

    Raises: UserError as `slim_encoder`.
    """
    return _make(SLiMClassifier, pretrained, options)


def _make(kind: Any, pretrained: Any, options: dict[str, Any]) -> Any:
    if pretrained is True:
        raise UserError(
            "No weights come with the code: give pretrained=PATH, or a hub name (owner/name)."
        )
    return kind.from_pretrained(pretrained, **options) if pretrained else kind(**options)
