"""What can be known to be wrong with an adapter from the shapes of its layers alone."""

from __future__ import annotations

from advlora.config import AdapterConfig


def check_adapter(config: AdapterConfig, shapes: dict[str, tuple[int, int]]) -> list[str]:
    """Checks rank and cluster count against the layers.

    Args:
        config: The adapter.
        shapes: Layer -> (out_features, in_features), as `linear_shapes` returns.

    Returns:
        One sentence per problem, each naming the tightest layer.
    """
    if config.kind != "lora" or not shapes:
        return []
    problems = []
    tightest = min(shapes, key=lambda name: min(shapes[name]))
    limit = min(shapes[tightest])
    if config.rank > limit:
        problems.append(
            f"adapter.rank: {config.rank} is above {limit}, the shorter side of layer '{tightest}', "
            f"and no product can have a higher rank"
        )
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
