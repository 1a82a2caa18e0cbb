"""Low-rank adapters with three switchable ingredients, their baselines, and verified exports."""

from advlora.adapters.adapt import AdaptedModel, adapt
from advlora.adapters.check import check_adapter
from advlora.adapters.export import ExportError
from advlora.adapters.trained import load_adapter, load_trained, save_trained

__all__ = ["AdaptedModel", "ExportError", "adapt", "check_adapter", "load_adapter", "load_trained", "save_trained"]
