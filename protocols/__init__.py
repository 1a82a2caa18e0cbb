"""Shipped evaluation protocols; each YAML is usable by its name."""
