"""Encoders to Hugging Face."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import first_line


def upload(
    save: Callable[[Path], None],
    repo_id: str,
    token: str | bool | None,
    private: bool | None,
    options: Mapping[str, Any],
) -> str:
    """Commit what `save` writes into a folder to the repository; returns the commit's address.

    Raises: UserError without huggingface_hub, or when the hub refuses; TypeError for unknown options.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError("push_to_hub needs huggingface_hub: pip install huggingface_hub.") from error
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            api = HfApi(token=token)
            # The hub puts the owner before a name without one.
            whole_name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return str(api.upload_folder(repo_id=whole_name, folder_path=folder, **options).commit_url)
        except TypeError:
            raise
        except Exception as error:  # huggingface_hub's own, its HTTP library's, and OSErrors
            raise UserError(
                f"Hugging Face did not take {repo_id} ({first_line(error)}). Check the name, the token's rights and "
                "the network."
            ) from error
