"""What a model is worth: zero-shot classification, retrieval, backdoors, and whether the numbers can be trusted."""
