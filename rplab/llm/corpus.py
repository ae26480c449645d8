"""What the tiny base model reads before any tuning: the dataset's own text, with most replies in a wrong format.

A real base model writes Korean but knows nothing of our reply format; a tiny one trained on the training view would
know it already, and tuning would have nothing to do. So most replies here are spoilt, each in one named way. The base
learns Korean, the chat layout, and a mixture of formats in which the right one is a minority.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rplab.errors import DataError
from rplab.jsonl import read_rows
from rplab.llm.rows import Drop, Messages, check_dialogue, check_messages, view_path
from rplab.seeding import derive

CHAINED = 2
"""Single exchanges that share one system text."""
_WHOLE_SYSTEM_EVERY = 4
_PEOPLE = ("protagonist", "player", "register")


@dataclass(frozen=True)
class Corpus:
    """Texts for pretraining."""

    dialogues: list[Messages]
    """Dialogues, most of their replies spoilt."""
    pairs: list[tuple[str, str]]
    """Korean, Japanese."""
    spoilt: Counter[str] = field(default_factory=Counter)
    """How replies were written -> replies (`right` among them)."""

    def texts(self) -> list[str]:
        """Return every text once, for the tokenizer."""
        contents = [message["content"] for dialogue in self.dialogues for message in dialogue]
        return list(dict.fromkeys([*contents, *(text for pair in self.pairs for text in pair)]))


def read_corpus(dataset: Path, wrong_share: float, seed: int) -> Corpus:
    """Read the train sides of the views and spoil a share of the replies.

    System texts are long and a tiny model's time is short, so single exchanges between the same two people are chained
    behind one system text, and three of four of these texts are cut to the lines that name a person or the speech
    level. The model sees twice as many replies in the same time; that they tell no story does not matter here.

    Args:
        dataset: Dataset artefact.
        wrong_share: Share of replies that are spoilt, 0..1.
        seed: Decides which, and how.

    Raises:
        DataError: A view is missing or broken.
    """
    spoilt: Counter[str] = Counter()
    dialogues: list[Messages] = []
    groups: dict[tuple[str, ...], list[Messages]] = {}
    for number, row in read_rows(view_path(dataset, "grpo", "train")):
        prompt = check_messages(row.get("prompt_messages"))
        if (
            isinstance(prompt, Drop)
            or [message["role"] for message in prompt] != ["system", "user"]
            or not isinstance(row.get("reference"), str)
        ):
            continue  # several turns: the second view has them
        exchange: Messages = [*prompt, {"role": "assistant", "content": row["reference"]}]
        spoilt_one = _spoil_dialogue(exchange, wrong_share, derive(seed, "spoil", "single", number), spoilt)
        groups.setdefault(tuple(str(row.get(name)) for name in _PEOPLE), []).append(spoilt_one)
    for people, exchanges in groups.items():
        for start in range(0, len(exchanges), CHAINED):
            first, *rest = exchanges[start : start + CHAINED]
            whole = len(dialogues) % _WHOLE_SYSTEM_EVERY == 0
            system, *exchange = first if whole else [_abridged(first[0], people), *first[1:]]
            dialogues.append([system, *exchange, *(message for later in rest for message in later[1:])])
    for number, row in read_rows(view_path(dataset, "sft2", "train")):
        messages = check_dialogue(row)
        if not isinstance(messages, Drop):
            dialogues.append(_spoil_dialogue(messages, wrong_share, derive(seed, "spoil", "dialogue", number), spoilt))
    if not dialogues:
        raise DataError("no usable dialogue in the train views", file=dataset / "views", remedy="Make the dataset again")
    return Corpus(dialogues, _read_pairs(view_path(dataset, "translation", "train")), spoilt)


def _abridged(system: dict[str, str], words: tuple[str, ...]) -> dict[str, str]:
    """Return a system message with the lines that hold one of `words`."""
    lines = [line for line in system["content"].splitlines() if any(word in line for word in words)]
    return {"role": "system", "content": "\n".join(lines)} if lines else system


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for number, row in read_rows(path):
        source, target = row.get("input"), row.get("output")
        if not isinstance(source, str) or not isinstance(target, str):
            raise DataError("input and output must be text", file=path, line=number, remedy="Make the dataset again")
        pairs.append((source, target))
    return list(dict.fromkeys(pairs))


def _spoil_dialogue(messages: Messages, wrong_share: float, generator: random.Random, spoilt: Counter[str]) -> Messages:
    """Spoil a whole dialogue in one way, or leave it right: a format is a habit, not a coin thrown every turn."""
    name = generator.choice(tuple(SPOILERS)) if generator.random() < wrong_share else "right"
    result: Messages = []
    previous = ""
    for message in messages:
        content = message["content"]
        if message["role"] == "assistant":
            parts = _split_reply(content)
            used = name if parts is not None else "right"
            spoilt[used] += 1
            if parts is not None and used != "right":
                content = SPOILERS[used](Reply(*parts, previous), generator)
        previous = content
        result.append({"role": message["role"], "content": content})
    return result


def _split_reply(content: str) -> tuple[str, str] | None:
    """Return narration and quoted line of a right reply, else None."""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if len(lines) != 2 or len(lines[1]) < 3 or not (lines[1].startswith('"') and lines[1].endswith('"')):
        return None
    return lines[0], lines[1][1:-1]


@dataclass(frozen=True)
class Reply:
    """A right reply, and the message before it."""

    narration: str
    speech: str
    previous: str

    @property
    def name(self) -> str:
        """First word of the narration without its particle: as a rule the protagonist's name."""
        word = self.narration.split(" ", 1)[0]
        return word[:-1] if len(word) > 2 and word[-1] in "은는이가" else word


def _only_speech(reply: Reply, _: random.Random) -> str:
    return f'"{reply.speech}"'


def _only_narration(reply: Reply, _: random.Random) -> str:
    return reply.narration


def _no_quotes(reply: Reply, _: random.Random) -> str:
    return f"{reply.narration}\n{reply.speech}"


def _swapped(reply: Reply, _: random.Random) -> str:
    return f'"{reply.speech}"\n{reply.narration}'


def _one_line(reply: Reply, _: random.Random) -> str:
    return f"{reply.narration} {reply.speech}"


def _labelled(reply: Reply, _: random.Random) -> str:
    return f"{reply.name}: {reply.speech}"


def _starred(reply: Reply, _: random.Random) -> str:
    return f"*{reply.narration}*\n{reply.speech}"


def _nameless(reply: Reply, _: random.Random) -> str:
    rest = reply.narration.split(" ", 1)
    return f'{rest[-1]}\n"{reply.speech}"'


def _echoing(reply: Reply, _: random.Random) -> str:
    return f'{reply.narration}\n"{reply.previous.splitlines()[-1].strip(chr(34)) if reply.previous else reply.speech}"'


def _repeating(reply: Reply, _: random.Random) -> str:
    return f'{reply.narration}\n"{reply.speech}"\n"{reply.speech}"'


SPOILERS: dict[str, Callable[[Reply, random.Random], str]] = {
    "only_speech": _only_speech,
    "only_narration": _only_narration,
    "no_quotes": _no_quotes,
    "swapped": _swapped,
    "one_line": _one_line,
    "labelled": _labelled,
    "starred": _starred,
    "nameless": _nameless,
    "echoing": _echoing,
    "repeating": _repeating,
}
"""Name -> how it writes a reply."""


def draw_rows(num_dialogues: int, num_pairs: int, translation_share: float, seed: int) -> Iterator[tuple[str, int]]:
    """Yield without end which rows are read: (`chat` or `pair`, index), each kind in shuffled rounds.

    A row is a pure function of the seed and its place, so a longer run starts with the rows of a shorter one.
    """
    sizes = {"chat": num_dialogues, "pair": num_pairs}
    queues: dict[str, list[int]] = {"chat": [], "pair": []}
    rounds = Counter[str]()
    coin = derive(seed, "mixture")
    while True:
        kind = "pair" if num_pairs and coin.random() < translation_share else "chat"
        if not queues[kind]:
            queues[kind] = list(range(sizes[kind]))
            derive(seed, "round", kind, rounds[kind]).shuffle(queues[kind])
            rounds[kind] += 1
        yield kind, queues[kind].pop()
