"""What can be known to be wrong with an adapter from the shapes of its layers alone."""

from __future__ import annotations

from advlora.config import LoraAdapter, LowRankAdapter
from advlora.config.inits import ClusterInit


def check_adapter(config: LowRankAdapter, shapes: dict[str, tuple[int, int]], ranks: dict[str, int]) -> list[str]:
    """Checks rank and cluster count against the layers.

    Args:
        config: The adapter.
        shapes: Layer -> (out_features, in_features), as `linear_shapes` returns.
        ranks: Layer -> rank.

    Returns:
        One sentence per problem, each naming the tightest layer.
    """
    if not shapes:
        return []
    problems = []
    room = {name: min(shape) - ranks[name] for name, shape in shapes.items()}
    tightest = min(room, key=lambda name: (room[name] >= 0, min(shapes[name]), room[name]))
    if room[tightest] < 0:
        limit = min(shapes[tightest])
        problems.append(
            f"adapter.rank: {ranks[tightest]} is above {limit}, the shorter side of layer '{tightest}', "
            f"and no product can have a higher rank"
        )
    if isinstance(config, LoraAdapter) and isinstance(config.init, ClusterInit):
        problems += _cluster_problems(config.init, shapes)
    return problems


def _cluster_problems(init: ClusterInit, shapes: dict[str, tuple[int, int]]) -> list[str]:
    side = 0 if init.axis == "rows" else 1
    fewest = min(shapes, key=lambda name: shapes[name][side])
    points = shapes[fewest][side]
    if init.clusters is None or init.clusters <= points:
        return []
    return [f"adapter.init.clusters: {init.clusters} is above {points}, the number of {init.axis} of layer '{fewest}'"]
