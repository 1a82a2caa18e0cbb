"""Whether a tokenizer belongs to its model: libraries make one up where its files are missing."""

from __future__ import annotations

from advlora.errors import ModelError


def check_vocabulary(model: str, known: int, vocabulary: int) -> None:
    """Refuses a tokenizer that does not know half of what its model has embeddings for.

    Without its files transformers makes up one that knows a few special tokens, to which every caption looks alike.

    Args:
        model: Name of the model.
        known: How many tokens the tokenizer knows.
        vocabulary: How many the model has embeddings for.

    Raises:
        ModelError: If it knows so few.
    """
    if known < vocabulary / 2:
        raise ModelError(
            f"model '{model}' has {vocabulary} tokens, but its tokenizer knows {known} of them, so that captions would "
            "look alike; are the tokenizer's files missing (tokenizer.json, vocab.json and merges.txt, or *.model)?"
        )
