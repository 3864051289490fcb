"""Where a transformers model comes from: the hub, at one commit, or a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2  # what huggingface_hub asks with
import huggingface_hub.constants
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from transformers.utils import CONFIG_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from shared.errors import ModelAway, StartError
from workers.embed import lite2

# The hub learns what it is asked for, and no more of this machine than it must.
huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True

# Hub models whose commit is known here. This one has no safetensors, only a pickle, which transformers reads
# with torch's weights-only reader; every other model must have safetensors.
PINNED = {"facebook/dino-vits16": "abe3b354cb6a9b6f146096b14a4a9d7eecbcb4bd"}

_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_TOKENIZER = (
    *("tokenizer_config.json", "tokenizer.json", "vocab.json", "merges.txt", "spiece.model"),
    *("special_tokens_map.json", "added_tokens.json"),
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_BUSY = 429


def is_folder(model: str) -> bool:
    return Path(model).is_dir()


def is_on_hub(model: str) -> bool:
    return model != lite2.NAME and not is_folder(model)


def newest(model: str) -> str | None:
    """The commit that the hub gives for a model now; None of one that is not on the hub. StartError, ModelAway."""
    try:
        return commit(model, None) if is_on_hub(model) else None
    except Exception as error:  # the hub has errors of its own
        raise unloadable(model, None, error) from error


def commit(model: str, revision: str | None) -> str:
    """The hub's commit of a branch, a tag or a commit; of None the one pinned here, else that of `main`."""
    file = cached_file(model, CONFIG_NAME, revision=revision or PINNED.get(model, "main"))
    found = extract_commit_hash(file, None)
    if found is None:
        raise ValueError("the hub names no commit")
    return str(found)


def fetch(model: str, commit: str) -> None:
    """Have the files of a hub's model here, of those that it has. ValueError where it has no safetensors.

    Transformers takes a file that cannot be fetched for one that does not exist, and would go on without it.
    """
    for name in (*_CONFIGS, *_TOKENIZER, *_WEIGHTS):
        # Neither here nor known to be missing.
        if try_to_load_from_cache(model, name, revision=commit) is None:
            with suppress(RemoteEntryNotFoundError):
                hf_hub_download(model, name, revision=commit)
    weights = [try_to_load_from_cache(model, name, revision=commit) for name in _WEIGHTS]
    if commit != PINNED.get(model) and not any(isinstance(path, str) for path in weights):
        raise ValueError(f"it has no {_WEIGHTS[0]}")


def hash_of(folder: Path) -> str:
    """Of what makes a folder's vectors of pictures, so that other weights are noticed."""
    digest = hashlib.sha256()
    configs = [folder / name for name in _CONFIGS if (folder / name).is_file()]
    for path in [*sorted(folder.glob("*.safetensors")), *configs]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def unloadable(model: str, revision: str | None, error: Exception) -> StartError | ModelAway:
    """What to say where a model cannot be loaded: StartError, or ModelAway where it may be in a while."""
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    if is_folder(model):
        return StartError(
            f"The model in the folder {model} cannot be used: {reason}. The folder must hold config.json, "
            "preprocessor_config.json and model.safetensors, as save_pretrained writes them."
        )
    if _is_of_the_moment(error):
        return ModelAway(
            f"The hub does not give the model {model} at the moment: {reason}. It is tried again."
        )
    return StartError(
        f"The model {model} is no folder here, and its revision {revision or PINNED.get(model, 'main')} cannot be "
        f"used from the hub: {reason}. Check the name and this machine's way to the hub, or set LOOKALIKE_MODEL to a "
        "folder that holds the model, or to efficientnet-lite2, which needs no hub."
    )


def _is_of_the_moment(error: Exception) -> bool:
    """Whether the hub did not answer, or said that it is busy or broken. Not where it must not be asked."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    chain = list(_causes(error))
    answered = [each.response.status_code for each in chain if isinstance(each, HfHubHTTPError)]
    if answered:
        return any(status == _BUSY or status >= 500 for status in answered)
    return any(isinstance(each, LocalEntryNotFoundError | httpx2.TransportError) for each in chain)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
