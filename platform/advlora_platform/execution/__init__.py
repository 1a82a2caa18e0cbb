"""Execution on Ray: one warm path for every trial."""
