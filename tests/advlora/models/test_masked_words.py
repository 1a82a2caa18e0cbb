"""Words of a tiny BERT that prefers later entries of its vocabulary: ..., the, on, ##s, ##oot, !."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from advlora.errors import ModelError
from advlora.models.masked_words import PROPOSALS, check_words, load_words

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")


def test_whole_words_are_proposed_the_likeliest_first(bert: str) -> None:
    proposed = load_words(bert, CPU)(["a", "photo", "of", "cat"], 1)
    assert proposed == ["on", "the", "dress", "boot", "red", "dog", "cat"]
    assert len(proposed) == PROPOSALS - 3, "neither parts of words nor signs"


def test_the_word_counts_at_its_place_and_is_masked_if_it_has_several_tokens(bert: str) -> None:
    words, seen = load_words(bert, CPU), []
    handle = words.net.register_forward_pre_hook(
        lambda _, __, options: seen.append(options["input_ids"][0].tolist()), with_kwargs=True
    )
    words(["a", "cat"], 1)
    words(["a", "cats", "on"], 1)
    handle.remove()
    names = [words.tokenizer.convert_ids_to_tokens(ids) for ids in seen]
    assert names == [["[CLS]", "a", "cat", "[SEP]"], ["[CLS]", "a", "[MASK]", "on", "[SEP]"]]


def test_a_word_beyond_the_models_length_has_no_substitutes(bert: str) -> None:
    caption = ["cat"] * 40
    assert load_words(bert, CPU)(caption, 3)
    assert load_words(bert, CPU)(caption, 30) == []


def test_a_model_is_loaded_once(bert: str) -> None:
    assert load_words(bert, CPU) is load_words(bert, CPU)


def test_what_is_no_masked_language_model_is_known_before_weights_are_read(bert: str, tiny, tmp_path: Path) -> None:
    assert check_words(bert) == []
    clip = tiny("clip").name
    assert check_words(clip) == [
        f"protocol.attacks.words: '{clip}' is of type 'clip', which is no masked language model; use one such as BERT"
    ]
    assert "does not exist" in check_words(f"local-dir:{tmp_path}/absent")[0]
    assert "protocol.attacks.words: folder" in check_words(f"local-dir:{tmp_path}")[0]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    (tmp_path / "model.safetensors").touch()
    assert "cannot be downloaded or read as a masked language model" in check_words(f"local-dir:{tmp_path}")[0]


def test_a_model_without_its_head_or_tokenizer_is_refused(bert: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert.removeprefix("local-dir:"), tmp_path / "bert")
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if "cls.predictions.transform" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack \d tensors that AutoModelForMaskedLM needs"):
        load_words(f"local-dir:{folder}", CPU)
    file.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"protocol\.attacks\.words: '.*' cannot be downloaded or read"):
        load_words(f"local-dir:{folder}", CPU)
