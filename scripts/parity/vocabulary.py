"""Tokenizers small enough to store: CLIP's byte-level BPE with a few hundred entries, T5's Unigram, Gemma's BPE.

The algorithms, special tokens, order of ids and padding are those of the published tokenizers; only the tables are
made here, from the texts below. Nothing is downloaded, and no token means what it means in the real tables.
"""

import inspect
import json
import re
from collections import Counter

from diffusers import SanaPipeline
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer, CLIPTokenizerFast, GemmaTokenizerFast, T5TokenizerFast
from transformers.models.clip.tokenization_clip import bytes_to_unicode

LENGTH = 77
MERGES = 150
GEMMA_MERGES = 300
START, END = "<|startoftext|>", "<|endoftext|>"

TEXTS = """
a photo of a red cube on a blue table
a painting of a castle on a hill at sunset, oil on canvas
portrait of an old sailor with a white beard, studio lighting, highly detailed
the quick brown fox jumps over the lazy dog
a watercolor of two boats in the harbor, soft light, trending on artstation
an astronaut riding a horse through the desert, cinematic, dramatic lighting, 4k
a small house in the forest in winter, snow on the roof, warm light in the windows
macro photograph of a bee on a flower, shallow depth of field
it's a robot's garden, isn't it? they're painting the walls green
a city street at night in the rain, neon signs, reflections on wet asphalt
"""


def common_pairs(words, split, count):
    """Merges of BPE: the commonest pair of neighbours becomes one symbol, the first in the alphabet of equally common ones."""
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for word, parts in split.items():
            joined = []
            for part in parts:
                if joined and joined[-1] == left and part == right:
                    joined[-1] += part
                else:
                    joined.append(part)
            split[word] = joined
    return merges


def write_clip_tables(folder):
    """`vocab.json` and `merges.txt`, in CLIP's order of ids: bytes, bytes that end a word, merges, the two special tokens."""
    letters = list(bytes_to_unicode().values())
    words = Counter()
    for text in TEXTS.strip().splitlines():
        words.update(re.findall(r"'s|'t|'re|[a-z]+|[0-9]|[^\sa-z0-9]+", text))
    merges = common_pairs(words, {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(words)}, MERGES)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges), START, END]
    assert len(set(tokens)) == len(tokens)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, ranks = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: at for at, token in enumerate(tokens)}, ensure_ascii=False))
    ranks.write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    return str(vocabulary), str(ranks)


def clip(folder, pad, fast):
    """CLIP's tokenizer: `fast` ones are saved as `tokenizer.json`. The published second tokenizers pad with "!", id 0."""
    vocabulary, ranks = write_clip_tables(folder)
    made = (CLIPTokenizerFast if fast else CLIPTokenizer)(
        vocabulary, ranks, unk_token=END, bos_token=START, eos_token=END, pad_token=pad, model_max_length=LENGTH)
    assert made.convert_tokens_to_ids([START, END]) == [len(made) - 2, len(made) - 1]
    return made


def t5():
    """T5's tokenizer: words begin with "▁", `</s>` ends the text, `<pad>` (id 0) fills it up, `<unk>` is id 2."""
    words = Counter("▁" + word for word in TEXTS.split())
    letters = sorted({letter for word in words for letter in word})
    whole = sorted(word for word in words if len(word) > 2)
    # Starts and ends of words, so that unknown words have more than one possible division.
    parts = Counter(part for word in whole for size in (2, 3) for part in (word[: size + 1], word[-size:]) if len(part) < len(word))
    common = sorted(part for part, count in parts.items() if count > 1 and part not in words)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    for group, score in ((letters, -8.0), (common, -7.0), (whole, -6.0)):
        pieces += [(piece, score - 0.01 * at) for at, piece in enumerate(group) if piece not in dict(pieces)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    # The published one has a table of SentencePiece here; NFKC is what it does to ordinary text.
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0, model_max_length=512)


def instruction():
    """The lines that SANA puts before a prompt, if it is not told others."""
    return inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default


def gemma():
    """Gemma's tokenizer: spaces are "▁", a whole text is one word, unknown letters become their bytes, `<bos>` (id 2) comes first.

    Runs of newlines and the marks of turns are tokens that are cut out of a text before words are made.
    """
    texts = (*TEXTS.strip().splitlines(), *instruction())
    words = Counter(("▁" if at else "") + word for text in texts for at, word in enumerate(text.lower().split()))
    merges = common_pairs(words, {word: list(word) for word in sorted(words)}, GEMMA_MERGES)
    letters = sorted({letter for text in texts for letter in text.replace(" ", "▁")})
    added = ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\n\n\n"]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *added, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += dict.fromkeys(left + right for left, right in merges)
    # Runs of spaces, as the published tables have them.
    merges += [("▁", "▁"), ("▁▁", "▁▁")]
    tokens += ["▁▁", "▁▁▁▁"]
    assert len(set(tokens)) == len(tokens)
    made = Tokenizer(models.BPE(
        {token: at for at, token in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens[:4]])
    made.add_tokens([AddedToken(token, normalized=False, special=token.startswith("<")) for token in added])
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return GemmaTokenizerFast(tokenizer_object=made, padding_side="right")
