"""Shipped search spaces; each YAML is usable by its name."""
