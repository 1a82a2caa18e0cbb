"""What is counted, beside what the formula of a step says."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from advlora.distributed import SOLO
from advlora.training.cost import step_forwards
from advlora.training.flops import counter, forward_flops
from advlora.training.trainer import _Training, _Trial
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import evaluation, trial

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
SMALL = {"data.train_samples": 16, "optimiser.batch_size": 16, "attack.steps": 2}
EMOJI = {"data.name": "emoji"}
BRIEF = evaluation(interval=0, samples={"val": 4, "test": 4}, curve=())


def counted(values, bench) -> tuple[float, int]:
    """A step per image, measured and by formula, in F."""
    config = trial({**SMALL, **values})
    steps = _Training(_Trial(config, BRIEF, bench, SOLO, CPU, None, ()), bench, None)
    images = steps.updates.data.images
    return steps.updates.flops() / forward_flops(bench.model(config.model), images), step_forwards(config)


@pytest.mark.parametrize("loss", ["cross_entropy", "trades", "pmg_aft", "fare"])
@pytest.mark.parametrize("adapter", ["lora", "dora", "adalora", "full", "linear_probe"])
def test_count_and_formula_agree_where_only_images_pass(loss, adapter, bench):
    ranks = {} if adapter in {"full", "linear_probe"} else {"adapter.rank": 2}
    measured, formula = counted({"loss.kind": loss, "adapter.kind": adapter, **ranks}, bench)
    assert measured == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("loss", ["contrastive", "cleanclip", "par"])
def test_frozen_captions_cost_nothing_in_a_step(loss, bench):
    measured, formula = counted({**EMOJI, "loss.kind": loss}, bench)
    assert measured == pytest.approx(formula, rel=0.05)


def test_a_low_rank_adapter_on_every_layer_costs_more_than_the_formula_says(bench):
    measured, formula = counted({"adapter.rank": 16, "adapter.target": "all-linear"}, bench)
    assert 1.1 * formula < measured < 1.5 * formula


def test_texts_that_are_embedded_in_every_step_are_counted(bench):
    both = {"adapter.tower": "both"}
    for values in ({}, {**EMOJI, "loss.kind": "contrastive"}):
        measured, formula = counted({**values, **both}, bench)
        assert measured > 1.1 * formula


def test_passes_of_a_matching_head_are_counted(tiny, bench):
    """Each of the two attack gradients and the update passes two captions per image through the text tower of BLIP."""
    model = tiny("blip")
    blip = {**EMOJI, "model.source": "transformers", "model.name": model.name, "adapter.target": "attention-qv"}
    images, formula = counted({**blip, "loss.kind": "contrastive"}, bench)
    assert images == pytest.approx(formula, rel=0.2)  # adapters weigh more in so small a model
    matching, _ = counted({**blip, "loss.kind": "itm"}, bench)
    assert matching > 1.5 * images


def test_attention_on_the_cpu_is_counted_forward_and_backward():
    query = torch.rand(2, 4, 17, 16, requires_grad=True)
    with counter() as forward:
        out = scaled_dot_product_attention(query, query, query)
    with counter() as backward:
        out.sum().backward()
    products = 2 * 2 * 4 * 17 * 17 * 16  # Q K^T, or the weights times V
    assert forward.get_total_flops() == 2 * products
    assert backward.get_total_flops() == 5 * products


def test_counting_trains_nothing_and_happens_once_for_all_seeds(run):
    class Asked(Workbench):
        measured = 0

        def once(self, key, measure):
            def counting():
                type(self).measured += 1
                return measure()

            return super().once(key, counting)

    bench, short = Asked(), {**SMALL, "optimiser.epochs": 2}
    found = {seed: run({**short, "seed": seed}, BRIEF, bench=bench) for seed in (0, 1)}
    flops = {seed: [report.metrics["cost/flops"] for report in reports] for seed, reports in found.items()}
    assert flops[0] == flops[1]
    assert flops[0][1] == 2 * flops[0][0] > 0
    assert Asked.measured == 1
    again = run({**short, "seed": 0}, BRIEF, bench=Known(bench))
    assert again[-1].metrics["train/loss"] == found[0][-1].metrics["train/loss"]


class Known(Workbench):
    """Counts nothing: what it is asked for is known."""

    def __init__(self, other: Workbench):
        super().__init__()
        self._models, self._splits = other._models, other._splits

    def once(self, key, measure):
        return 1.0


def test_a_trial_that_goes_on_elsewhere_counts_as_one_that_was_never_interrupted(run):
    values = {**SMALL, "optimiser.epochs": 2, "loss.kind": "fare"}
    first, last = run(values, BRIEF)
    (again,) = run(values, BRIEF, state=first.state, bench=Known(Workbench()))
    assert again.metrics["cost/flops"] == last.metrics["cost/flops"]
    assert first.metrics["cost/flops"] > last.metrics["cost/flops"] / 2  # with FARE's pass over the clean images


def test_an_untrained_model_costs_nothing(run):
    (only,) = run({"adapter.kind": "none"}, BRIEF)
    assert only.metrics["cost/flops"] == 0
