"""From records to answers: intervals, effects, comparisons."""
