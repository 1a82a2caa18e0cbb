"""A trained model of a study as others can use it: its folder with a model card, and its way to the hub."""

from advlora_platform.sharing.folder import write_model
from advlora_platform.sharing.hub import push, repository

__all__ = ["push", "repository", "write_model"]
