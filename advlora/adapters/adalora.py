"""AdaLoRA as PEFT has it (Zhang et al. 2023), with its schedule, its penalty and a state that continues exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advlora.config.adapters import AdaLoraAdapter

SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class Allocation:
    """PEFT's rank allocator of one module.

    The penalty is the one that PEFT adds to a `loss` in the model's output, which our models do not have.
    """

    def __init__(self, module: nn.Module, targets: list[str] | str, config: AdaLoraAdapter) -> None:
        """Injects the layers."""
        from peft import AdaLoraConfig
        from peft.tuners.adalora import AdaLoraModel

        self.config = config
        settings = AdaLoraConfig(
            init_r=config.first_rank,
            target_r=config.rank,
            lora_alpha=config.first_rank if config.alpha is None else config.alpha,
            lora_dropout=config.dropout,
            target_modules=targets,
            deltaT=config.interval,
            orth_reg_weight=config.orthogonality,
            total_step=1,  # until `schedule` says how many there are
        )
        self.tuner: Any = AdaLoraModel(module, settings, "default")
        self.settings: Any = self.tuner.peft_config["default"]

    def schedule(self, steps: int) -> None:
        """Spreads warm-up, allocation and final phase over the training."""
        settings = self.config
        # PEFT gives the last ranks out `tfinal` steps before the end, and only after a step that scored them.
        final = min(max(int(settings.final * steps), 1), steps - 1)
        self.settings.total_step, self.settings.tfinal = steps, final
        self.settings.tinit = max(min(int(settings.warmup * steps), steps - final - 1), 0)

    def step(self, number: int) -> None:
        """Allocates ranks by the gradients of step `number`, counted from 0; call it before they are cleared."""
        if self.settings.target_r < self.settings.init_r:
            self.tuner.update_and_allocate(number)

    def penalty(self) -> Tensor:
        """Returns gamma times the mean of ||P^T P - I||_F and ||Q Q^T - I||_F (Zhang et al. 2023, equation 4)."""
        terms = []
        for name, factor in self.tuner.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                gram = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.config.orthogonality * torch.stack(terms).mean()

    def state(self) -> dict[str, Tensor]:
        """Returns scores and masks as CPU clones."""
        allocator = self.tuner.rankallocator
        state = {f"{kind}/{name}": value for kind in SCORES for name, value in getattr(allocator, kind).items()}
        pattern = self.settings.rank_pattern or {}
        state |= {f"pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Resumes from `state`."""
        device = next(self.tuner.model.parameters()).device
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*SCORES, "pattern")}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = value
        for kind in SCORES:
            setattr(self.tuner.rankallocator, kind, {name: value.to(device) for name, value in parts[kind].items()})
        self.settings.rank_pattern = {name: kept.tolist() for name, kept in parts["pattern"].items()} or None
