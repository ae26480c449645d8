"""What a text model says too often: worn-out phrases of our list, and word sequences it repeats beyond chance.

Both are counted on content words in dictionary form (Kiwi), so that inflection hides nothing. Large data sets are sampled
by the hash of each text: the sample does not depend on order, and the report says how large it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rplab.seeding import derive_seed
from rplab.text.diversity import overused_phrases
from rplab.text.morphemes import content_words, find_cliches, read_cliches

MAX_TEXTS = 1_200
"""Texts that are taken apart; about a second of CPU."""
_SHOWN = 14


def measure_slop(texts: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Count worn-out and over-used phrases.

    Args:
        texts: Narrations or speeches.
        names: Names of people; a word that starts with one counts as a name, and phrases with names are left out.

    Returns:
        sampled, cliche_share (texts with at least one), cliches [[phrase, group, texts, share]], phrases [[words, texts, share, lift]].
    """
    chosen = sorted(set(texts), key=lambda text: derive_seed(0, "slop", text))[:MAX_TEXTS]
    words = [["<name>" if word.startswith(tuple(names)) and names else word for word in content_words(text)] for text in chosen]
    groups = {" ".join(phrase): group for phrase, group in read_cliches().items()}
    found = [find_cliches(own) for own in words]
    counts = Counter(phrase for own in found for phrase in own)
    number = max(1, len(chosen))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "sampled": len(chosen),
        "cliche_share": round(sum(bool(own) for own in found) / number, 4),
        "cliches": [[phrase, groups[phrase], count, round(count / number, 4)] for phrase, count in ordered[:_SHOWN]],
        "phrases": [list(phrase) for phrase in overused_phrases(words, _SHOWN)],
    }
