"""Measurements of speed; every claim of the documentation about it comes from here."""
