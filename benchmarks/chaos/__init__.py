"""Kills at random, under a study that must come out as if nobody had."""
