"""Search: spaces, samplers, early stopping, and an ablation as a searcher."""
