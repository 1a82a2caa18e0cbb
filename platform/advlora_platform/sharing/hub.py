"""From the folder of a trained model to a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from advlora.errors import ConfigError, UserError, first_line

SCHEME = "hf://"


def repository(address: str) -> str:
    """Returns `USER/NAME` of `hf://USER/NAME`.

    Raises:
        ConfigError: If the address is not of this form.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = address.removeprefix(SCHEME)
    if not address.startswith(SCHEME) or name.count("/") != 1:
        raise ConfigError(f"'{address}' is no address of a model on the hub; it is written {SCHEME}USER/NAME")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"'{address}': {first_line(error)}") from None
    return name


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Makes the repository where there is none, and uploads a folder into it in one commit.

    The token is that of `hf auth login` or of the environment variable `HF_TOKEN`.

    Args:
        folder: What `write_model` wrote.
        name: `USER/NAME`.
        private: Whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        UserError: If the hub does not answer, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload the adapted model"))
    except LocalTokenNotFoundError:
        raise UserError("the hub wants a token: run 'hf auth login', or set HF_TOKEN") from None
    except Exception as error:  # refusals, lost connections and offline mode share no base class
        raise UserError(f"the hub did not take '{name}': {first_line(error)}") from error
