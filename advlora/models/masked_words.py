"""`MaskedWords`: words that could stand in a caption, as a masked language model of transformers proposes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from advlora.errors import ModelError, first_line
from advlora.models.quiet import contained_transformers
from advlora.models.transformers import place_of, weights

KEY = "protocol.attacks.words"
PROPOSALS = 10
"""Candidate tokens per word (Lu et al. 2023, section 5.1)."""
RESERVED = 2
"""Positions of RoBERTa's embeddings that no token of a caption uses."""


class MaskedWords:
    """The likeliest whole words at a place of a caption (BERT-Attack, Li et al. 2020, section 3.2).

    The word itself stays visible, so that its substitutes mean something similar; one of several tokens is masked.
    """

    def __init__(self, net: Any, tokenizer: Any, device: torch.device) -> None:
        """Takes a masked language model, and its tokenizer, which must know where tokens begin in a text."""
        self.net, self.tokenizer, self.device = net.eval().requires_grad_(False).to(device), tokenizer, device
        self.length = int(net.config.max_position_embeddings) - RESERVED

    @torch.no_grad()
    def __call__(self, words: Sequence[str], place: int) -> list[str]:
        """Returns words for a place, the likeliest first; none where the caption is too long for the model."""
        begin = len(" ".join([*words[:place], ""]))
        tokens = self.tokenizer(" ".join(words), truncation=True, max_length=self.length, return_tensors="pt")
        first, last = (tokens.char_to_token(0, at) for at in (begin, begin + len(words[place]) - 1))
        if first is None or last is None:
            return []
        ids = tokens["input_ids"][0]  # (L,)
        if first != last:
            mask = torch.tensor([self.tokenizer.mask_token_id])
            ids = torch.cat([ids[:first], mask, ids[last + 1 :]])
        scores = self.net(input_ids=ids[None].to(self.device)).logits[0, first]  # (vocabulary,)
        best = scores.topk(min(PROPOSALS, len(scores))).indices.tolist()
        return [word for token in best if (word := self._word(token))]

    def _word(self, token: int) -> str:
        """Returns the word that a token is by itself; empty for a part of a word, a sign or a special token."""
        word: str = self.tokenizer.decode([token]).strip()
        alone = self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] == [token]
        return word if word.isalpha() and alone else ""


def check_words(name: str) -> list[str]:
    """Returns the problems of a masked language model that can be found before its weights are read."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    try:
        place = place_of(name, None, KEY)
        with contained_transformers():
            kind = AutoConfig.from_pretrained(place).model_type
    except ModelError as error:
        return error.problems
    except Exception as error:  # transformers and the hub share no base class of errors
        return [_unreadable(name, error)]
    if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return [f"{KEY}: '{name}' is of type '{kind}', which is no masked language model; use one such as BERT"]
    return []


@lru_cache(maxsize=1)
def load_words(name: str, device: torch.device) -> MaskedWords:
    """Loads a masked language model by the hub's name or `local-dir:PATH`; the last one is remembered.

    Raises:
        ModelError: If there is none, or it cannot be downloaded or read.
    """
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    place = place_of(name, None, KEY)
    with contained_transformers():
        try:
            net, tokenizer = weights(AutoModelForMaskedLM, place, {}), AutoTokenizer.from_pretrained(place)
        except ModelError:
            raise
        except Exception as error:  # transformers, the hub, safetensors and tokenizers share no base class of errors
            raise ModelError(_unreadable(name, error)) from error
    if not tokenizer.is_fast or tokenizer.mask_token_id is None:
        raise ModelError(f"{KEY}: the tokenizer of '{name}' must be a fast one with a token for masked words")
    return MaskedWords(net, tokenizer, device)


def _unreadable(name: str, error: Exception) -> str:
    return (
        f"{KEY}: '{name}' cannot be downloaded or read as a masked language model of transformers "
        f"(a folder is named 'local-dir:PATH'): {first_line(error)}"
    )
