"""Tiny random models of the real transformers classes, in folders that transformers itself wrote."""

from __future__ import annotations

from pathlib import Path

import torch

from advlora.config import ModelConfig

WORDS = ["<pad>", "<start>", "<end>", "<other>", "a", "photo", "of", "cat", "dog", "red", "boot", "dress", "the", "on"]


PROCESSORS = {
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 16, "width": 16}}),
    "blip": ("BlipImageProcessor", {"size": {"height": 16, "width": 16}}),
}
"""Family -> class of its image processor, and its recipe at the tiny model's size."""


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<other>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<start>", eos_token="<end>", unk_token="<other>"
    )


def network(family: str):
    import transformers

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**vision, "vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 0, "bos_token_id": 1}
    vision |= {"image_size": 16, "patch_size": 8}
    if family == "clip":
        config = transformers.CLIPConfig(
            vision_config=vision, text_config={**text, "eos_token_id": 2}, projection_dim=24
        )  # fmt: skip
        return transformers.CLIPModel(config)
    if family == "siglip":
        return transformers.SiglipModel(transformers.SiglipConfig(vision_config=vision, text_config=text))
    text |= {"encoder_hidden_size": 32, "sep_token_id": 2, "projection_dim": 24}
    config = transformers.BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=24)
    return transformers.BlipForImageTextRetrieval(config)


def with_more_tokens(net, count: int) -> None:
    """Adds tokens that the tokenizer does not know, as BLIP's [DEC] and [ENC]."""
    embeddings = net.text_encoder.embeddings
    known = embeddings.word_embeddings.weight
    more = torch.cat([known.data, torch.randn(count, known.shape[1])])
    embeddings.word_embeddings = torch.nn.Embedding.from_pretrained(more, freeze=False, padding_idx=0)
    net.config.text_config.vocab_size += count


def written(family: str, folder: Path) -> ModelConfig:
    """Writes the tiny model of a family into a folder and returns its configuration."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = network(family).eval()
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        if family == "blip":
            with_more_tokens(net, 2)
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    kind, recipe = PROCESSORS[family]
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    getattr(transformers, kind)(image_mean=mean, image_std=std, **recipe).save_pretrained(folder)
    return ModelConfig(source="transformers", name=f"local-dir:{folder}")


def masked_words(folder: Path) -> str:
    """Writes a tiny BERT that fills masks, with the tokenizer that BERT has, and returns its name in a protocol.

    At every place it proposes the same words: a bias of its output prefers later entries of the vocabulary.
    """
    import transformers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[4:], "##s", "##oot", "!"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=14, **sizes)
        net = transformers.BertForMaskedLM(config).eval()
    net.cls.predictions.bias.data = torch.arange(float(len(vocabulary)))
    net.save_pretrained(folder)
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(
        folder
    )
    return f"local-dir:{folder}"
