"""The evidence about low rank, with intervals over seeds. It is the content of `lowrank.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from advlora.config import LowRankAdapter
from advlora.metrics import Metric
from advlora.training.workbench import Workbench
from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.lowrank.changes import Change, measure_change
from advlora_platform.lowrank.trials import Trained, check_comparable, open_study
from advlora_platform.study.folder import read_json

RANKS = (0, 1, 2, 4, 8, 16, 32, 64)
CONFIDENCE = 0.95
KEPT = 0.95
"""Share of what the whole change gains over none that a rank must keep to count as enough."""
BySeed = dict[int, float]


@dataclass(frozen=True)
class Evidence:
    """What was found.

    Attributes:
        study: The study whose full fine-tunings were measured.
        study_id: Ties it to the study's folder and runs.
        sweep: The study whose adapters they are compared with; empty where there are none.
        protocol: What robust accuracy means, in one clause.
        metric: Its name.
        samples: Images on which the truncated models were measured.
        trained_samples: Images on which the trained adapters were, the same ones first.
        ranks: Ranks to which the changes were truncated, ascending.
        changes: One per full fine-tuning.
        trained: Start -> rank -> seed -> robust accuracy of a trained adapter.
    """

    study: str
    study_id: str
    sweep: str
    protocol: str
    metric: str
    samples: int
    trained_samples: int
    ranks: tuple[int, ...]
    changes: tuple[Change, ...]
    trained: dict[str, dict[int, BySeed]]

    def of(self, adversarial: bool) -> list[Change]:
        """Returns the adversarial or the clean changes."""
        return [change for change in self.changes if change.adversarial == adversarial]

    def mean(self, name: str, adversarial: bool) -> Estimate | None:
        """Returns a mean over layers, such as `entropy_rank`, over seeds."""
        return estimate([change.means[name] for change in self.of(adversarial)], CONFIDENCE)

    def difference(self, name: str) -> Estimate | None:
        """Returns adversarial less clean of a mean over layers, paired by seed."""
        return paired(self._by_seed(True, lambda c: c.means[name]), self._by_seed(False, lambda c: c.means[name]))

    def cut(self, rank: int, adversarial: bool = True) -> Estimate | None:
        """Returns robust accuracy of the change truncated to a rank, over seeds."""
        return estimate([change.truncated[rank] for change in self.of(adversarial)], CONFIDENCE)

    def whole(self, adversarial: bool = True) -> Estimate | None:
        """Returns robust accuracy of the models as they were trained, over seeds."""
        return estimate([change.whole for change in self.of(adversarial)], CONFIDENCE)

    def gap(self, start: str, rank: int) -> Estimate | None:
        """Returns the truncated adversarial change less an adapter trained at the same rank, paired by seed.

        None where a seed in common, or the rank, is missing, or both were not measured on the same images.
        """
        if rank not in self.ranks or self.samples != self.trained_samples:
            return None
        return paired(self._by_seed(True, lambda change: change.truncated[rank]), self.trained[start].get(rank, {}))

    def enough(self) -> int | None:
        """Returns the smallest rank that keeps 95 % of what the adversarial change gains over rank 0.

        None where no rank does, rank 0 was not tried, or the change gains nothing.
        """
        whole, none = self.whole(), self.cut(0) if 0 in self.ranks else None
        if whole is None or none is None or whole.mean <= none.mean:
            return None
        wanted = none.mean + KEPT * (whole.mean - none.mean)
        kept = {rank: found for rank in self.ranks if (found := self.cut(rank)) is not None}
        return next((rank for rank, found in kept.items() if found.mean >= wanted), None)

    def _by_seed(self, adversarial: bool, of: Callable[[Change], float]) -> BySeed:
        return {change.seed: of(change) for change in self.of(adversarial)}

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain data, with the estimates that the report shows."""
        means = {
            name: {
                "adversarial": _plain(self.mean(name, True)),
                "clean": _plain(self.mean(name, False)),
                "difference": _plain(self.difference(name)),
            }
            for name in self.changes[0].means
        }
        gaps = {start: {rank: _plain(self.gap(start, rank)) for rank in ranks} for start, ranks in self.trained.items()}
        return {**asdict(self), "means": means, "enough": self.enough(), "gaps": gaps}


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """Returns the mean difference over the seeds that both have."""
    return estimate([first[seed] - second[seed] for seed in first if seed in second], CONFIDENCE)


def gather(
    folder: Path,
    sweep: Path | None = None,
    *,
    ranks: Sequence[int] = RANKS,
    samples: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """Measures what the full fine-tunings of a study changed and compares them with trained adapters.

    Args:
        folder: Folder of a study with finished adversarial and clean full fine-tunings of the same model.
        sweep: Folder of a study with low-rank adapters at several ranks; None for the same folder.
        ranks: Ranks to which the changes are truncated.
        samples: At most this many images of `test`; None for as many as the protocol says.
        progress: Called with what is being done.

    Raises:
        UserError: If there is nothing to compare, or unlike things would be.
    """
    opened = open_study(folder)
    target = opened if sweep is None else open_study(sweep)
    check_comparable(opened, target)
    protocol = opened.study.protocol
    if samples is not None:
        fewer = protocol.samples.model_copy(update={"test": min(samples, protocol.samples.test)})
        protocol = protocol.model_copy(update={"samples": fewer})
    identity = read_json(opened.folder.identity) or {}
    bench, wanted, changes = Workbench(), tuple(sorted(set(ranks))), []
    for number, trial in enumerate(opened.full, start=1):
        progress(f"measuring {trial.arm}, seed {trial.config.seed} ({number} of {len(opened.full)})")
        changes.append(measure_change(trial, protocol, wanted, bench))
    metric = str(Metric.robust("test", protocol.epsilon))
    return Evidence(
        study=opened.study.name,
        study_id=str(identity.get("study_id", "")),
        sweep=target.study.name if target.adapters else "",
        protocol=protocol.describe(identity.get("classes", 0)),
        metric=metric,
        samples=protocol.samples.test,
        trained_samples=target.study.protocol.samples.test,
        ranks=wanted,
        changes=tuple(changes),
        trained=_trained(target.adapters, metric),
    )


def _trained(trials: Sequence[Trained], metric: str) -> dict[str, dict[int, BySeed]]:
    table: dict[str, dict[int, BySeed]] = {}
    for trial in trials:
        adapter = trial.config.adapter
        assert isinstance(adapter, LowRankAdapter), "those are the adapters"
        ranks = table.setdefault(adapter.label, {})
        ranks.setdefault(adapter.rank, {})[trial.config.seed] = trial.metrics[metric]
    return {start: dict(sorted(ranks.items())) for start, ranks in table.items()}


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
