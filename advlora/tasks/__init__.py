"""What a model is examined on: zero-shot classification, retrieval, image-text matching, backdoors."""
