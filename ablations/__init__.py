"""Shipped ablation studies; each YAML is usable by its name."""
