"""Training: one trial as a generator of epoch reports, and what it costs."""
