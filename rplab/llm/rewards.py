"""Rewards: what a good reply is, as pure functions of the text and a typed context.

Seven terms, each 0..1, each 1 for a good reply and lower for one named fault, so that their weighted sum cannot be
raised by anything else than being good:

    format      exactly one narration line, one quoted line, nothing after
    role        no speaker labels, no template tokens, the player's words and deeds left to the player
    character   narration starts with the protagonist's name, plain -다 style; speech in the right speech level
    length      inside the band of the training data: neither silence nor padding pays
    repetition  no loops, no sentence said twice, no filler
    script      Korean only
    echo        does not hand the player's line back

Name, player and speech level come from dataset columns; nothing is read out of the prompt's prose (the predecessor did,
and rewarded the wrong speech level: spec/predecessor-models.md 6.1). An empty reply scores 0 in every term.

To add a term: write `score_<name>(completion, context)`, list it in `TERMS`, give it a weight in
`rplab.llm.eval_config.RewardWeights`, and add the hack it stops to tests/rplab/llm/test_rewards.py.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rplab.character import Register
from rplab.errors import DataError
from rplab.llm.eval_config import RewardWeights
from rplab.llm.reply import Reply, ends_sentence, parse_reply
from rplab.llm.reward_patterns import (
    ALLOWED,
    CONNECTIVE,
    HANGUL,
    INLINE_LABEL,
    LABEL,
    MARKER,
    META,
    PLAIN_END,
    REORDERED_WORDS,
    SHORT_ITEMS,
    SHORT_SENTENCE,
    SPEECH_VERB,
    SUBJECT,
)
from rplab.text.korean import name_pattern
from rplab.text.repetition import echo_share, fold, longest_run_ratio, repeated_ngram_share
from rplab.text.speech_level import Level, sentence_level, split_sentences

DEFAULT_MIN_CHARS = 12
DEFAULT_MAX_CHARS = 200


@dataclass(frozen=True)
class RewardContext:
    """What a reply is judged against."""

    protagonist: str
    """Name of the character that speaks."""
    player: str
    """Name of the person it speaks to."""
    register: Register
    """Speech level of the spoken line."""
    user: str
    """The player's last message."""
    min_chars: int = DEFAULT_MIN_CHARS
    """Shortest reply without loss, in characters including both lines."""
    max_chars: int = DEFAULT_MAX_CHARS
    """Longest reply without loss."""


_LEVELS = {Register.POLITE: Level.POLITE, Register.CASUAL: Level.CASUAL}


def score(completion: str, context: RewardContext) -> dict[str, float]:
    """Judge one completion.

    Args:
        completion: The text between the assistant header and the end-of-turn token, special tokens not removed.
        context: What to judge against.

    Returns:
        Each term of `TERMS`, 0..1. All 0 when the completion holds no Korean syllable.
    """
    text = completion.strip()
    if not HANGUL.search(text):
        return dict.fromkeys(TERMS, 0.0)
    reply = parse_reply(text)
    return {name: round(min(1.0, max(0.0, term(text, reply, context))), 6) for name, term in TERMS.items()}


def total(scores: Mapping[str, float], weights: RewardWeights | None = None) -> float:
    """Return the weighted mean of the terms, 0..1."""
    table: dict[str, float] = (weights or RewardWeights()).model_dump()
    return sum(weight * scores[name] for name, weight in table.items()) / sum(table.values())


def context_from_row(row: Mapping[str, Any], band: tuple[int, int] = (DEFAULT_MIN_CHARS, DEFAULT_MAX_CHARS)) -> RewardContext:
    """Build the context of a GRPO row from its columns.

    Args:
        row: A row of views/grpo: `protagonist`, `player`, `register`, `prompt_messages`.
        band: Shortest and longest reply without loss, from `length_band`.

    Raises:
        DataError: A column is missing or no speech level.
    """
    try:
        users = [message["content"] for message in row["prompt_messages"] if message["role"] == "user"]
        return RewardContext(
            protagonist=_name(row["protagonist"]),
            player=_name(row["player"]),
            register=Register(row["register"]),
            user=users[-1] if users else "",
            min_chars=band[0],
            max_chars=band[1],
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"GRPO row {row.get('id', '?')}: {type(error).__name__}: {error}"
        raise DataError(what, remedy="It needs protagonist, player, register (존댓말 or 반말) and prompt_messages") from None


def _name(value: Any) -> str:
    """Read a name column, which may also be a whole person."""
    name = value["name"] if isinstance(value, Mapping) else value
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a name is empty")
    return name.strip()


def length_band(references: Sequence[str], low: float = 0.05, high: float = 0.95) -> tuple[int, int]:
    """Return the band in which most references lie, in characters.

    Args:
        references: Replies of the training data.
        low: Lower quantile.
        high: Upper quantile.

    Returns:
        Shortest and longest length without loss; the defaults when there are no references.
    """
    lengths = sorted(len(text.strip()) for text in references)
    if not lengths:
        return DEFAULT_MIN_CHARS, DEFAULT_MAX_CHARS
    last = len(lengths) - 1
    return max(1, lengths[int(low * last)]), lengths[min(last, int(high * last + 0.999))]


def score_format(_text: str, reply: Reply, _context: RewardContext) -> float:
    """Give 0.3 for narration first, 0.4 for a quoted second line, 0.3 for nothing else; small cuts for sloppy marks."""
    value = 0.3 if reply.narration else 0.0
    if reply.speech:
        value += 0.2 if reply.curly else 0.4
    if reply.narration and reply.speech and not reply.extra:
        value += 0.3
    if reply.has_blank_lines:
        value -= 0.15
    for part in (reply.narration, reply.speech):
        if part and not ends_sentence(part):
            value -= 0.15
    return value


def score_role(text: str, reply: Reply, context: RewardContext) -> float:
    """Take points off for labels, template tokens, and speaking or acting for the player."""
    value = 1.0
    if MARKER.search(text):
        value -= 0.8
    if META.search(text) and not META.search(context.user):
        value -= 0.6
    names = "|".join(re.escape(name) for name in (context.player, context.protagonist))
    if LABEL.search(text) or INLINE_LABEL.search(text) or re.search(rf"^[\s\"“]*(?:{names})\s*[:：]", text, re.MULTILINE):
        value -= 0.6
    deeds = [sentence for sentence in split_sentences(reply.narration) if acts_for_player(sentence, context)]
    if deeds:
        value -= 0.7 if any(SPEECH_VERB.search(sentence) for sentence in deeds) else 0.5
    claim = (
        rf"(?:나는|난|내가|내 이름은|저는|전|제가|제 이름은)\s*{re.escape(context.player)}(?:이?야|이?다|예요|이에요|입니다|이라고|라고)"
    )
    if re.search(claim, reply.speech):
        value -= 0.7
    if len(reply.extra) and any('"' in line for line in reply.extra) and reply.speech:
        value -= 0.3  # a second spoken line is, as a rule, the player's
    return value


def acts_for_player(sentence: str, context: RewardContext) -> bool:
    """Return whether a narration sentence makes the player its topic, or its subject with the protagonist left out.

    A subject (카즈키가) may stand in a clause about something else (카즈키가 건넨 지도를); a topic (카즈키는) never does.
    """
    if context.player == context.protagonist:
        return False
    player = re.escape(context.player)
    if re.search(rf"(?:^|[\s,]){player}(?:은|는)(?=[\s,]|$)", sentence):
        return True
    return context.protagonist not in sentence and bool(re.match(rf"\s*(?:{CONNECTIVE}\s+)?{player}(?:{SUBJECT}(?=[\s,]|$)|,)", sentence))


def score_character(_text: str, reply: Reply, context: RewardContext) -> float:
    """Give 0.35 for the name at the start (0.15 elsewhere), 0.2 for plain narration, 0.45 for the speech level."""
    value = 0.0
    if starts_with_name(reply.narration, context.protagonist):
        value += 0.35
    elif context.protagonist in reply.narration:
        value += 0.15
    if re.match(rf"\s*{re.escape(context.protagonist)}(?:은|는|이|가)\s.*[가-힣]다[.!…]*$", reply.speech):
        value -= 0.3  # narration between quotation marks
    return value + 0.2 * plain_share(reply.narration) + 0.45 * register_score(reply.speech, context.register)


def starts_with_name(narration: str, name: str) -> bool:
    """Return whether a narration line starts with the name as a word of its own, with or without a particle."""
    return name_pattern(name).match(narration) is not None


def plain_share(narration: str) -> float:
    """Return the share of narration sentences in plain style (-다, but not -습니다), 0..1."""
    sentences = split_sentences(narration)
    plain = [bool(PLAIN_END.search(sentence)) and sentence_level(sentence) is not Level.POLITE for sentence in sentences]
    return sum(plain) / len(plain) if plain else 0.0


def register_score(speech: str, register: Register) -> float:
    """Return the share of sentences in the wanted speech level among those that show one, 0..1.

    Speech that shows none (정말?) gives 0.75: nothing is wrong with it, but it must not be a way around the rule.
    """
    levels = [level for sentence in split_sentences(speech) if (level := sentence_level(sentence)) is not Level.UNKNOWN]
    if not levels:
        return 0.75 if HANGUL.search(speech) else 0.0
    return sum(level is _LEVELS[register] for level in levels) / len(levels)


def keeps_register(speech: str, register: Register) -> bool:
    """Return whether there is speech and no sentence of it in the other level."""
    return bool(HANGUL.search(speech)) and all(sentence_level(s) in (_LEVELS[register], Level.UNKNOWN) for s in split_sentences(speech))


def score_length(text: str, _reply: Reply, context: RewardContext) -> float:
    """Give 1 inside the band, falling to 0 at 40 % of the shortest and at 160 % of the longest length."""
    length = len(text)
    if length < context.min_chars:
        floor = 0.4 * context.min_chars
        return (length - floor) / (context.min_chars - floor)
    if length > context.max_chars:
        return 1 - (length - context.max_chars) / (0.6 * context.max_chars)
    return 1.0


def score_repetition(text: str, _reply: Reply, context: RewardContext) -> float:
    """Fall with loops, sentences said twice, favourite words, filler, and with the share of the text that was already said."""
    value = 1.0 - max(0.0, (repeated_ngram_share(text) - 0.15) / 0.35) - max(0.0, (longest_run_ratio(text) - 0.3) / 0.4)
    words = [fold(word) for word in text.split()]
    value -= 0.3 * max(0, max(len(list(group)) for _, group in itertools.groupby(words)) - 2)
    favourites = Counter(word for word in words if len(word) >= 3 and not word.startswith((context.protagonist, context.player)))
    value -= 0.25 * max(0, max(favourites.values(), default=0) - 2)
    if re.search(r"([^\W_])\1{3}", text):  # one syllable four times
        value -= 0.5
    if re.search(r"[^\w\s]{7}|[^\S\n]{3}", text):  # rows of marks or spaces
        value -= 0.5
    sentences = split_sentences(text)
    if any(sum(0 < len(fold(item)) <= 3 for item in sentence.split(",")) >= SHORT_ITEMS for sentence in sentences):
        value -= 0.5
    if text.count(context.protagonist) > len(sentences) + 1:
        value -= 0.3
    return value - _said_again(text)


def _said_again(text: str) -> float:
    """Return what a reply loses for sentences that say nothing new: half for each equal one, a quarter for each contained one.

    The polite ending is left out of the comparison, so that "더 들려줘. 더 들려줘요." is the same sentence twice. A sentence
    inside a longer one may be emphasis ("보고 싶어. 정말 보고 싶어."), and alone is no loop.
    """
    said = [fold(sentence).removesuffix("요") for sentence in split_sentences(text.replace('"', " "))]
    equal = sum(count - 1 for sentence, count in Counter(said).items() if len(sentence) >= SHORT_SENTENCE)
    different = {sentence for sentence in said if len(sentence) > SHORT_SENTENCE}
    contained = sum(any(sentence in other for other in different - {sentence}) for sentence in different)
    return 0.5 * equal + 0.25 * contained


def score_script(text: str, _reply: Reply, context: RewardContext) -> float:
    """Fall with every character that is no Korean prose; Latin words that the player wrote first are free."""
    allowed = set(re.findall(r"[A-Za-z]+", context.user))
    rest = re.sub(r"[A-Za-z]+", lambda match: "" if match.group() in allowed else match.group(), text)
    foreign = len(ALLOWED.sub("", rest))
    if not foreign:
        return 1.0
    return 0.6 - 2.0 * foreign / len(text)


def score_echo(_text: str, reply: Reply, context: RewardContext) -> float:
    """Fall with the share of the reply that is taken from the player's line.

    Compared in pieces of 2 letters for a line of up to 4, 3 up to 10, else 5, so that shared endings and names are no copy.
    """
    size = len(fold(context.user))
    order = 2 if size <= 4 else 3 if size <= 10 else 5
    narration = reply.narration.removeprefix(context.protagonist)
    shares = [echo_share(part, context.user, order) for part in (reply.speech, narration) if len(fold(part)) >= order]
    theirs, ours = ({fold(word) for word in line.split()} for line in (context.user, reply.speech))
    if len(ours) >= REORDERED_WORDS:
        shares.append(len(ours & theirs) / len(ours))  # the same words in another order
    return 1 - max(0.0, (max(shares, default=0.0) - 0.4) / 0.4)


TERMS: dict[str, Callable[[str, Reply, RewardContext], float]] = {
    "format": score_format,
    "role": score_role,
    "character": score_character,
    "length": score_length,
    "repetition": score_repetition,
    "script": score_script,
    "echo": score_echo,
}
"""Name -> term; the names are the fields of `RewardWeights`."""
