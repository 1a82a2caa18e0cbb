"""What can be known to be wrong with an adapter from the shapes of its layers alone."""

from __future__ import annotations

from advlora.config import LOW_RANK, AdapterConfig


def check_adapter(
    config: AdapterConfig, shapes: dict[str, tuple[int, int]], ranks: dict[str, int] | None = None
) -> list[str]:
    """Checks rank and cluster count against the layers.

    Args:
        config: The adapter.
        shapes: Layer -> (out_features, in_features), as `linear_shapes` returns.
        ranks: Layer -> rank, where it is not the adapter's.

    Returns:
        One sentence per problem, each naming the tightest layer.
    """
    if config.kind not in LOW_RANK or not shapes:
        return []
    problems = []
    rank = config.initial_rank if config.kind == "adalora" else config.rank
    room = {name: min(shape) - (ranks or {}).get(name, rank) for name, shape in shapes.items()}
    tightest = min(room, key=lambda name: (room[name] >= 0, min(shapes[name]), room[name]))
    if room[tightest] < 0:
        limit = min(shapes[tightest])
        problems.append(
            f"adapter.rank: {limit - room[tightest]} is above {limit}, the shorter side of layer '{tightest}', "
            f"and no product can have a higher rank"
        )
    if config.kind != "lora":
        return problems
    clusters = config.clustering.clusters
    side = 0 if config.clustering.axis == "rows" else 1
    fewest = min(shapes, key=lambda name: shapes[name][side])
    points = shapes[fewest][side]
    if clusters is not None and clusters > points and uses_clusters(config):
        problems.append(
            f"adapter.clustering.clusters: {clusters} is above {points}, the number of {config.clustering.axis} "
            f"of layer '{fewest}'"
        )
    return problems


def uses_clusters(config: AdapterConfig) -> bool:
    """Whether k-means runs: for the clustered start, or to match its norm."""
    return config.clustering.enabled or config.start == "norm_matched"
