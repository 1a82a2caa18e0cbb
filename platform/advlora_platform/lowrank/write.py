"""The evidence about low rank for people and programs, in the folder `lowrank` of its study, and in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.lowrank.evidence import CONFIDENCE, Evidence
from advlora_platform.lowrank.figures import draw_evidence
from advlora_platform.report.canvas import DARK, LIGHT
from advlora_platform.report.document import Document, Finding, Part, Picture, Table
from advlora_platform.report.markdown import to_markdown
from advlora_platform.report.page import to_html
from advlora_platform.report.wording import ABSENT, mean_with_interval, percent, points
from advlora_platform.study import Lease, reopen
from advlora_platform.study.folder import write_json, write_text
from advlora_platform.tracking import MlflowTracker

PLACE = "lowrank"
NAMES = {
    "rank_90": "rank for 90 % of the energy",
    "stable_rank": "stable rank",
    "entropy_rank": "entropy rank",
    "relative_norm": "norm relative to the weight",
    "energy_8": "energy of 8 directions",
    "energy_16": "energy of 16 directions",
}


def write_evidence(evidence: Evidence, folder: Path) -> list[Path]:
    """Writes `lowrank.json`, `report.md`, `report.html` and the figures below `lowrank/` of a study folder.

    Returns:
        Every file that was written.
    """
    place, document, light = folder / PLACE, build_document(evidence), draw_evidence(evidence, LIGHT)
    figures = {place / "figures" / f"{name}.png": content for name, content in light.items()}
    write_json(place / "lowrank.json", evidence.to_json())
    write_text(place / "report.md", to_markdown(document, light))
    write_text(place / "report.html", to_html(document, light, draw_evidence(evidence, DARK)))
    for path, content in figures.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [place / "lowrank.json", place / "report.md", place / "report.html", *figures]


def log_evidence(evidence: Evidence, folder: Path, files: list[Path]) -> None:
    """Logs numbers and files to the run of the study.

    Raises:
        UserError: If another process drives the study now, or the store cannot be used.
    """
    study, opened = reopen(folder)
    with Lease(opened), MlflowTracker(study, opened) as tracker:
        tracker.add(metrics(evidence), files, PLACE)


def metrics(evidence: Evidence) -> dict[str, float]:
    """Returns the numbers under the names they have in MLflow."""
    found: dict[str, Estimate | None] = {}
    for side, adversarial in (("adversarial", True), ("clean", False)):
        found |= {f"{side}/{name}": evidence.mean(name, adversarial) for name in NAMES}
        found |= {f"{side}/truncated/{rank}": evidence.cut(rank, adversarial) for rank in evidence.ranks}
        found[f"{side}/whole"] = evidence.whole(adversarial)
    for start, ranks in evidence.trained.items():
        found |= {f"gap/{start}/{rank}": evidence.gap(start, rank) for rank in ranks}
    return {f"{PLACE}/{name}": each.mean for name, each in found.items() if each is not None}


def build_document(evidence: Evidence) -> Document:
    """Builds the report."""
    return Document(
        title=evidence.study,
        kind="low-rank evidence",
        description="Is the change of weights in adversarial fine-tuning low-rank, and does training find it?",
        protocol=evidence.protocol,
        facts=(("study id", evidence.study_id), ("sweep", evidence.sweep or "none")),
        findings=tuple(Finding(text) for text in findings(evidence)),
        parts=tuple(_sections(evidence)),
    )


def findings(evidence: Evidence) -> list[str]:
    """Says what was found, whichever way it fell."""
    said = [_compared(evidence, name) for name in ("rank_90", "stable_rank", "entropy_rank")]
    return [*said, *_functional(evidence), *_gaps(evidence)]


def _functional(evidence: Evidence) -> Iterator[str]:
    whole, none, enough = evidence.whole(), evidence.cut(0) if 0 in evidence.ranks else None, evidence.enough()
    if whole is None or none is None:
        return
    gained = f"from {percent(none.mean)} % robust accuracy at rank 0 to {percent(whole.mean)} %"
    if whole.mean <= none.mean:
        yield f"The adversarial change of these layers gains nothing ({gained}), so truncating it says nothing of rank."
    elif enough is None:
        yield f"No rank that was tried keeps 95 % of what the adversarial change gains ({gained})."
    else:
        cut = evidence.cut(enough)
        yield (
            f"Cut to rank {enough}, the adversarial change keeps {percent(cut.mean if cut else None)} % robust "
            f"accuracy; no smaller rank that was tried keeps 95 % of what it gains ({gained})."
        )


def _compared(evidence: Evidence, name: str) -> str:
    adversarial, clean, difference = evidence.mean(name, True), evidence.mean(name, False), evidence.difference(name)
    text = f"{NAMES[name].capitalize()}: adversarial {_number(adversarial)}, clean {_number(clean)}"
    if difference is None or difference.low is None or difference.high is None:
        return f"{text}; fewer than two seeds in common, so the difference has no interval."
    resolved = difference.low > 0 or difference.high < 0
    word = ("higher" if difference.mean > 0 else "lower") if resolved else "not resolved from"
    interval = f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"
    return f"{text}; adversarial is {word} {'than ' if resolved else ''}clean: {interval}, mean over layers."


def _gaps(evidence: Evidence) -> Iterator[str]:
    for start, ranks in evidence.trained.items():
        gaps = {rank: gap for rank in ranks if (gap := evidence.gap(start, rank)) is not None}
        if gaps:
            listed = ", ".join(f"{points(gap.mean)} at rank {rank}" for rank, gap in gaps.items())
            yield f"Truncation less training, start '{start}': {listed} (points; what optimisation leaves behind)."


def _sections(evidence: Evidence) -> Iterator[Part]:
    seeds = len(evidence.of(True)), len(evidence.of(False))
    yield Part(
        "Spectra",
        (
            f"Singular values of the change of every weight, mean over layers, over {seeds[0]} adversarial and "
            f"{seeds[1]} clean full fine-tunings (95 % t-intervals). The clean one is the control: any fine-tuning may "
            "be low-rank.",
        ),
        Picture("energy", "Energy that the leading directions hold, mean over layers and seeds."),
        _means_table(evidence),
    )
    yield Part("Layers", picture=Picture("layers", "Rank for 90 % of the energy, by layer."), folded=True)
    yield Part(
        "Function",
        (
            f"Robust accuracy (%) on {_images(evidence)}. The truncated models keep all other trained "
            "parameters, also at rank 0. Trained adapters are those of the sweep, at their own tuned learning rates.",
        ),
        Picture("truncation", "Robust accuracy by rank, mean with 95 % interval."),
        _function_table(evidence),
    )


def _images(evidence: Evidence) -> str:
    if not evidence.trained or evidence.samples == evidence.trained_samples:
        return f"{evidence.samples} test images"
    return (
        f"the first {evidence.samples} test images for truncated models and {evidence.trained_samples} for trained "
        "adapters, so that they are not compared"
    )


def _means_table(evidence: Evidence) -> Table:
    rows = tuple(
        (
            title,
            _number(evidence.mean(name, True)),
            _number(evidence.mean(name, False)),
            _number(evidence.difference(name), sign="+"),
        )
        for name, title in NAMES.items()
    )
    return Table(("mean over layers", "adversarial", "clean", "difference"), "lrrr", rows)


def _function_table(evidence: Evidence) -> Table:
    ranks = sorted({*evidence.ranks, *(rank for known in evidence.trained.values() for rank in known)})
    columns = {
        "adversarial, truncated": {rank: evidence.cut(rank) for rank in evidence.ranks},
        "clean, truncated": {rank: evidence.cut(rank, False) for rank in evidence.ranks},
    }
    for start, known in evidence.trained.items():
        columns[f"trained: {start}"] = {
            rank: estimate(list(seeds.values()), CONFIDENCE) for rank, seeds in known.items()
        }
    rows = [(str(rank), *(mean_with_interval(known.get(rank)) for known in columns.values())) for rank in ranks]
    whole = [mean_with_interval(evidence.whole()), mean_with_interval(evidence.whole(False))]
    rows.append(("whole", *whole, *(ABSENT for _ in evidence.trained)))
    return Table(("rank", *columns), "r" * (1 + len(columns)), tuple(rows))


def _number(found: Estimate | None, sign: str = "") -> str:
    if found is None:
        return ABSENT
    bounds = "" if found.low is None else f" ({found.low:{sign}.2f} to {found.high:{sign}.2f})"
    return f"{found.mean:{sign}.2f}{bounds}"
