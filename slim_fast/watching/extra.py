"""Libraries of the extra [video], imported when they are needed."""

from importlib import import_module
from typing import Any

from slim_fast.errors import UserError

NAMES = {"cv2": "OpenCV", "mediapipe": "MediaPipe"}


def import_extra(module: str, purpose: str) -> Any:
    """A library's module. Raises: UserError without it, which says what it is needed for."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f'{purpose} needs {NAMES[module]}: pip install "slim_fast[video]".'
        ) from error
