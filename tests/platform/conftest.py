"""Makes `stories` importable for the tests of every room of the platform."""
