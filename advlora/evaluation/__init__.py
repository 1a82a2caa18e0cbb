"""What a model is evaluated on: zero-shot classification, retrieval, image-text matching, backdoors."""
