"""A study: its YAML, its arms and trials, its folder, and the ledger of what is done."""
