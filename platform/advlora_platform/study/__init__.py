"""A study: its YAML, its arms and cells, its folder, and the ledger of what is done."""
