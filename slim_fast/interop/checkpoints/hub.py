"""Encoders from and to Hugging Face repositories."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError, suggest
from slim_fast.interop.checkpoints.model_card import CARD
from slim_fast.model.files import CONFIG, MORE, WEIGHTS

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_INSIDE = re.compile(r"(\w[\w.-]*/\w[\w.-]*)/(\w[\w./-]*)")


def split_name(name: str, subfolder: str | None) -> tuple[str, str]:
    """Repository and subfolder of "owner/name", or of "owner/name/subfolder".

    What begins with a local folder's name is a path that is wrong, and stays whole.
    """
    inside, match = (subfolder or "").strip("/"), _INSIDE.fullmatch(name)
    if not match or Path(name.split("/")[0]).exists():
        return name, inside
    return match[1], f"{match[2]}/{inside}".strip("/")


def download(
    repository: str,
    subfolder: str,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    more: Sequence[str] = (),
) -> Path:
    """Download an encoder's files of a Hugging Face repository; returns the local folder.

    more: patterns of other files to download, from the repository's root.
    Raises: UserError for an impossible name, without huggingface_hub, without network or for an
    unknown repository.
    """
    path = Path(repository)
    siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    whole = "/".join(filter(None, (repository, subfolder)))
    absent = f"There is no folder or file {whole}{suggest(repository, siblings)}"
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{absent}, and it is no Hugging Face name (owner/name) either.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{absent}: check the path, or to look it up on Hugging Face: pip install "
            "huggingface_hub."
        ) from error
    inside = f"{subfolder}/" if subfolder else ""
    files = [*(inside + name for name in (CONFIG, MORE, WEIGHTS)), *more]
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}
    try:
        folder = Path(snapshot_download(repository, allow_patterns=files, **options))
        if not (folder / inside / WEIGHTS).exists():  # the pattern's * also matches slashes
            pth, deeper = f"{inside}*.pth", f"{inside}*/*"
            folder = Path(
                snapshot_download(
                    repository, allow_patterns=[pth], ignore_patterns=[deeper], **options
                )
            )
    except Exception as error:  # huggingface_hub's own, its HTTP library's, and OSErrors
        raise UserError(
            f"{absent}: check the path. If it is a Hugging Face name, check the name, the "
            f"revision, the token and the network ({first_line(error)})."
        ) from error
    return folder


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its class where that is empty."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def upload(
    save: Callable[[Path], None],
    repo_id: str,
    token: str | bool | None,
    private: bool | None,
    options: Mapping[str, Any],
) -> str:
    """Commit what `save` writes into a folder to the repository; returns the commit's address.

    Raises: UserError without huggingface_hub, or when the hub refuses; TypeError for unknown
    options.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(
            "push_to_hub needs huggingface_hub: pip install huggingface_hub."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            api = HfApi(token=token)
            # The hub puts the owner before a name without one.
            whole_name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if api.file_exists(whole_name, CARD, revision=options.get("revision")):
                (Path(folder) / CARD).unlink(missing_ok=True)
            return str(
                api.upload_folder(repo_id=whole_name, folder_path=folder, **options).commit_url
            )
        except TypeError:
            raise
        except Exception as error:  # huggingface_hub's own, its HTTP library's, and OSErrors
            raise UserError(
                f"Hugging Face did not take {repo_id} ({first_line(error)}). Check the name, the "
                "token's rights and the network."
            ) from error
