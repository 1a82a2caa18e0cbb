"""AdvLoRA: adversarial low-rank adaptation of vision-language models.

The method only: configuration, models, data, adapters, attacks, training and evaluation. It knows nothing of the
orchestration (Ray, Optuna, MLflow), which lives in `advlora_platform`. Importing it is cheap.
"""

__version__ = "0.1.0"
