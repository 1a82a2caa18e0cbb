"""The model card of a trained model, in the format of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from advlora.adapters.readme import name_of_base
from advlora.adapters.trained import ADAPTER, MERGED, NATIVE, TEXT_ADAPTER, TWIN_ADAPTER
from advlora.config import HUB, LOCAL, ModelConfig, TrialConfig, dump_yaml, parse
from advlora.data import load_manifest
from advlora.metrics import Metric
from advlora_platform.analysis import Estimate
from advlora_platform.choosing import Choice
from advlora_platform.report.wording import mean_with_interval, percent, title_of
from advlora_platform.study.outcomes import Shelf

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

PARTS = {
    MERGED: "the whole model, the update merged, for the library that the pretrained model comes from",
    ADAPTER: "the low-rank update alone, for PEFT on the pretrained model",
    TEXT_ADAPTER: "the same of the text tower",
    TWIN_ADAPTER: "the same update for PEFT on transformers' `CLIPModel`",
    NATIVE: "the state for the package `advlora` alone: the update is not linear",
}
_TEXT = """# {name}

`{base}`, adapted by {method} on {data}. {description}

## What is here
{parts}
- `train.yaml`: `advlora train train.yaml` trains it again and compares the validation metrics.
- `trained.json`: what was trained, and by how much each export differs from it (checked before it was written).

The README.md of each adapter holds the lines that load it.

## Measured
{protocol}.

| | this model | mean of {seeds} ({confidence:.0%} interval) | images |
|---|---|---|---|
{rows}

An interval covers the choice of seeds, and of images where the outcome of each is known; with one seed there is none.
Selected: {reason}.

## Limits
- Robust means: against the attacks above, at these sizes, as the protocol runs them. It is a measurement and no
  certificate; a stronger attack may find more.
- It was measured on {data} alone. Nothing is said of other data, other threats, or of bias.{unreliable}
- The licence of the pretrained weights holds for these too.

## How it was made
Study `{study}` ({study_id}), arm `{arm}`, seed {seed} of {seeds}, trial `{trial}`; data {data_hash}, code {code}.

```yaml
{config}```
"""


def model_card(choice: Choice, outcomes: Shelf, parts: Sequence[str]) -> ModelCard:
    """Returns the card of a chosen model.

    Args:
        choice: The configuration, its trial, and what the study found.
        outcomes: What became of every example.
        parts: Which exports there are.
    """
    from huggingface_hub import ModelCard, ModelCardData

    config = parse(TrialConfig, choice.best.config)
    ours = config.model.source == "embedded"  # all others keep the licence that they came with
    data = ModelCardData(
        model_name=f"{choice.study.name}-{choice.best.arm}".replace(" ", "-"),
        base_model=hub_id(config.model),
        library_name="peft" if ADAPTER in parts else "open_clip",
        license="mit" if ours else "other",
        license_name=None if ours else "that-of-the-pretrained-model",
        tags=["adversarial-robustness", "advlora", "lora", "clip"],
        eval_results=list(_results(choice, config, outcomes)),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(choice, config, outcomes, parts)}")


def hub_id(base: ModelConfig) -> str | None:
    """Returns the hub's id of a pretrained model; None where its name is not one."""
    if base.source == "transformers" and not base.name.startswith(LOCAL):
        return base.name
    return base.name.removeprefix(HUB) if base.name.startswith(HUB) else None


def _measured(choice: Choice) -> list[str]:
    """Returns the clean and robust accuracies on `test`; on `val` for a trial that was never reported."""
    names = [name for name in choice.best.metrics if Metric.parse(name).name.startswith(("clean_", "robust_"))]
    return [n for n in names if Metric.parse(n).split == "test"] or [n for n in names if Metric.parse(n).on_data]


def _results(choice: Choice, config: TrialConfig, outcomes: Shelf) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    manifest = load_manifest(config.data)
    retrieval = manifest.task == "retrieval"
    for name in _measured(choice):
        yield EvalResult(
            task_type="image-text-retrieval" if retrieval else "zero-shot-image-classification",
            dataset_type=manifest.name,
            dataset_name=manifest.name,
            dataset_split=Metric.parse(name).split,
            dataset_revision=choice.best.data_hash,
            metric_type="recall" if retrieval else "accuracy",
            metric_name=title_of(name).removesuffix(" (%)"),
            metric_value=round(100 * choice.best.metrics[name], 2),
            metric_args=_circumstances(choice, outcomes, name),
        )


def _circumstances(choice: Choice, outcomes: Shelf, name: str) -> dict[str, Any]:
    """Returns under what, and how surely, a metric was measured: attack, images, seeds, interval in percent."""
    mean, images = _estimate(choice, name), outcomes.scores(choice.best.trial_id, name)
    found: dict[str, Any] = {"protocol": choice.summary.protocol, "seeds": list(choice.best.seeds)}
    if images is not None:
        found["images"] = len(images)
    if mean is not None:
        found["mean_over_seeds"] = round(100 * mean.mean, 2)
    if mean is not None and mean.low is not None and mean.high is not None:
        found |= {"interval": [round(100 * mean.low, 2), round(100 * mean.high, 2)]}
        found |= {"confidence": choice.summary.confidence}
    return found


def _estimate(choice: Choice, name: str) -> Estimate | None:
    return None if choice.arm is None else choice.arm.estimates.get(name)


def _text(choice: Choice, config: TrialConfig, outcomes: Shelf, parts: Sequence[str]) -> str:
    best, summary = choice.best, choice.summary
    provenance = summary.provenance
    return _TEXT.format(
        name=f"{summary.study}: {best.arm}",
        base=name_of_base(config.model),
        method=config.adapter.label,
        data=f"`{config.data.name}`",
        description=summary.description,
        parts="\n".join(f"- `{part}/`: {PARTS[part]}" for part in parts),
        protocol=summary.protocol,
        seeds=f"{len(best.seeds)} seed{'s' * (len(best.seeds) > 1)}",
        confidence=summary.confidence,
        rows="\n".join(_row(choice, outcomes, name) for name in _measured(choice)),
        reason=best.reason,
        unreliable=_doubts(choice),
        study=summary.study,
        study_id=summary.study_id,
        arm=best.arm,
        seed=config.seed,
        trial=best.trial_id,
        data_hash=best.data_hash,
        code=provenance.get("code_version") or provenance.get("commit") or "unknown",
        config=dump_yaml(best.config),
    )


def _row(choice: Choice, outcomes: Shelf, name: str) -> str:
    images = outcomes.scores(choice.best.trial_id, name)
    count = "" if images is None else f"{len(images):,}"
    own = percent(choice.best.metrics[name])
    return f"| {title_of(name)} | {own} | {mean_with_interval(_estimate(choice, name))} | {count} |"


def _doubts(choice: Choice) -> str:
    trials = () if choice.arm is None else choice.arm.trials
    said = dict.fromkeys(trial.unreliable for trial in trials if trial.unreliable)
    return "".join(f"\n- **A check of the numbers failed**: {reason}." for reason in said)
