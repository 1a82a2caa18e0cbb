"""Caption templates per domain, and the tokenizer that is learned on all captions."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATES = {
    "fashion": (
        "a photo of a {}",
        "a product photo of a {}",
        "a grey picture of a {}",
        "a {} on a black background",
        "a small image of a {}",
    ),
    "emoji": ("{}", "an emoji of {}", "a drawing of {}", "a small icon showing {}"),
    "shapes": ("a {}", "a drawing of a {}", "a single {} on a plain background"),
}
VOCABULARY = 4096
CONTEXT_LENGTH = 20


def train_tokenizer(concepts: dict[str, list[str]], folder: Path) -> None:
    """Learns a byte-pair vocabulary on every caption and saves it as a `transformers` tokenizer.

    The end token gets the highest id, because CLIP's text tower reads its feature at the position of the largest
    token id (Radford et al., 2021).
    """
    captions = [
        template.format(concept)
        for domain, names in concepts.items()
        for concept in sorted(set(names))
        for template in TEMPLATES[domain]
    ]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 1, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens(["[END]"])
    end = tokenizer.token_to_id("[END]")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", end)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    )
    wrapped.save_pretrained(str(folder))
