"""What the tokenizers make of texts that are hard on them: ids without padding, of both of CLIP's, of T5's and of Gemma's.

CLIP's second one pads with "!", which makes that a special token: it is cut out of any text, before words are made.
"""

import json

import vocabulary

TEXTS = [
    "", " ", "a photo of a red cube", "A PHOTO OF A Red Cube", "  lots \t of\n\n space  ", "it's we're they'll I'd you've can't",
    "12345 3.14 4k", "a-b_c/d (e) [f] {g} <h>", "wait... what?!! -- no", "hello!world ! !", "naïve Café ÉCOLE", "cafe\u0301 A\u030a",
    "ﬁne ½ ² ™ №", "emoji 🎨🖌️ and ❤", "Привет, мир", "κόσμος ΚΌΣΜΟΣ", "“curly” ‘quotes’ — dash…", "non\u00a0breaking\u2009thin",
    "ẞ straße İstanbul", "unbelievablyunknownword", "a" * 40, "snow, " * 60, "東京 の夜",
]


def write(path, scratch):
    pads = vocabulary.END, "!"
    fast, slow = ([vocabulary.clip(scratch, pad, fast=kind) for pad in pads] for kind in (True, False))
    t5, gemma = vocabulary.t5(), vocabulary.gemma()
    lines = []
    for text in TEXTS:
        ids, others = ([made(text, truncation=True).input_ids for made in kind] for kind in (fast, slow))
        if ids != others:
            print(f"the two implementations of CLIP's tokenizer in transformers disagree, not stored: {text!r}")
            continue
        entry = {"text": text, "clip": ids[0], "clip_2": ids[1], "t5": t5(text, truncation=True, max_length=256).input_ids}
        entry["gemma"] = gemma(text, truncation=True, max_length=300).input_ids
        lines.append(json.dumps(entry, ensure_ascii=False))
    path.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n")
