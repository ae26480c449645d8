"""Templates with slots, rendered in Korean and Japanese at the same time.

A template is `[conditions] KO = JA`. Slots: `{t:을}` the topic with a fitted particle, `{t.cop}` a noun as a predicate,
`{do.wil}` something done with the topic (같이 바다에 갈래), `{adj.adn}` one of its adjectives, `{np}` the topic with or
without an adjective, `{마시다.p}` a form of a predicate, `{나는}` a word that follows the speech level, `{when}` any
phrase bank. The same slot on both sides is the same choice. Conditions: `c` or `p` (speech level), names of genres,
eras, categories, separated by commas; of each kind one must fit.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from rplab.backend.scripted.forms import COPULA
from rplab.backend.scripted.forms_ko import Level
from rplab.backend.scripted.hangul import final, fit_particle, is_syllable
from rplab.backend.scripted.lexicon import Action, Category, Lexicon, Noun, Predicate, Words, load_lexicon
from rplab.errors import ConfigError

GENRES = ("연애물", "비극", "육성물", "성장물", "심리 시뮬레이션")
ERAS = ("판타지", "현대", "공상과학", "디지털 세계")

_SLOT = re.compile(r"\{([^{}.:]+)(?:\.([a-z]+))?(?::([^{}]+))?\}")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Slot:
    """One `{name.form:particle}`."""

    name: str
    form: str = ""
    particle: str = ""


@dataclass(frozen=True)
class Template:
    """A compiled template."""

    ko: tuple[str | Slot, ...]
    ja: tuple[str | Slot, ...]
    names: tuple[str, ...]
    """Slots in the order in which they are drawn."""
    conditions: frozenset[str]

    @property
    def has_topic(self) -> bool:
        """Tell whether the topic's word is in the sentence."""
        return any(name in ("t", "np") or name.startswith(("do", "gift")) for name in self.names)


def _segments(text: str) -> tuple[str | Slot, ...]:
    parts: list[str | Slot] = []
    end = 0
    for match in _SLOT.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(Slot(match[1], match[2] or "", match[3] or ""))
        end = match.end()
    if end < len(text):
        parts.append(text[end:])
    return tuple(parts)


def compile_template(text: str) -> Template:
    """Compile one line of a template bank.

    Raises:
        ConfigError: No ` = `, or a slot of one side that the other lacks.
    """
    conditions: frozenset[str] = frozenset()
    if match := re.match(r"\[([^\]]+)\]\s*", text):
        conditions = frozenset(item.strip() for item in match[1].split(","))
        text = text[match.end() :]
    left, separator, right = text.partition(" = ")
    if not separator:
        raise ConfigError(f"scripted grammar: no ' = ' in {text!r}")
    ko, ja = _segments(left.strip()), _segments(right.strip())
    names = tuple(dict.fromkeys(part.name for part in ko if isinstance(part, Slot)))
    if set(names) != {part.name for part in ja if isinstance(part, Slot)}:
        raise ConfigError(f"scripted grammar: the slots of both sides differ in {text!r}")
    return Template(ko, ja, names, conditions)


@dataclass
class Scene:
    """What a request is about, and its random numbers; mutable while one reply is made."""

    rng: random.Random
    level: Level
    genre: str
    era: str = "현대"
    man: bool = False
    """The speaker is a man (Japanese pronoun)."""
    topic: Noun | None = None
    names: dict[str, Words] = field(default_factory=dict)
    """Slots that are given: you, me, place."""
    action: Action | None = None
    """What the other side wants to do with the topic, when that is known: `{do}` is this then."""
    inner: dict[str, Predicate] = field(default_factory=dict)
    """Predicates that are given: face, move."""

    @property
    def lexicon(self) -> Lexicon:
        """The words."""
        return load_lexicon()

    @property
    def category(self) -> Category:
        """The topic's category."""
        if self.topic is None:
            raise ConfigError("scripted grammar: a template asks for a topic, and there is none")
        return self.lexicon.categories[self.topic.category]

    def banks(self, kind: str, act: str, polarity: str = "") -> tuple[str, ...]:
        """Return the banks for an act about the topic: the one of the topic's group and the one for any topic, as far as there are."""
        ending = f"/{polarity}" if polarity else ""
        names = (f"{kind}/{act}/{group}{ending}" for group in (self.category.group, "any"))
        return tuple(name for name in names if name in self.lexicon.templates)

    def choose(self, items: Sequence[_Item]) -> _Item:
        """Draw one item."""
        return items[int(self.rng.random() * len(items))]

    def chance(self, share: float) -> bool:
        """Return True with the given probability."""
        return self.rng.random() < share

    def draw(self, *banks: str) -> Template:
        """Draw a template that fits from the given banks together."""
        category = "" if self.topic is None else self.topic.category
        fitting = _fitting(banks, self.level == "c", self.genre, self.era, category)
        if not fitting:
            raise ConfigError(f"scripted grammar: no template of {banks} fits {self.genre}, {self.era}, {category or 'no topic'}")
        return self.choose(fitting)

    def say(self, *banks: str) -> Words:
        """Draw a template from the banks and render it."""
        return self.render(self.draw(*banks))

    def render(self, template: Template) -> Words:
        """Fill a template in both languages."""
        values = {name: self._value(name) for name in template.names}
        ko = [part if isinstance(part, str) else self._ko(part, values[part.name]) for part in template.ko]
        ja = [part if isinstance(part, str) else self._ja(part, values[part.name]) for part in template.ja]
        return Words(" ".join("".join(ko).split()), "".join(ja))

    def _value(self, name: str) -> Words | Noun | Predicate:
        if name in self.names:
            return self.names[name]
        if name in self.inner:
            return self.inner[name]
        lexicon = self.lexicon
        if name in lexicon.predicates:
            return lexicon.predicates[name]
        if name in lexicon.closed:
            forms = lexicon.closed[name]
            level = "c" if self.level == "c" else "p"
            return forms.get(level + "m", forms[level]) if self.man else forms[level]
        base = name.rstrip("0123456789")
        if base in ("t", "np", "do", "adj", "gift"):
            return self._about_topic(base)
        if base in lexicon.phrases:
            return self.choose(lexicon.phrases[base])
        if base in lexicon.sets:
            return self.choose(lexicon.sets[base])
        raise ConfigError(f"scripted grammar: no slot is called {name!r}")

    def _about_topic(self, base: str) -> Words | Noun | Predicate:
        category, topic = self.category, self.topic
        assert topic is not None
        if base == "do":
            action = self.action or self.choose(category.actions)
            return action.on(topic)
        if base == "gift":
            return self.choose(category.gifts).on(topic)
        if base == "adj":
            return self.choose(category.adjectives)
        if base == "np" and " " not in topic.ko and self.chance(0.5):
            adjective = self.choose(category.adjectives).inflect("adn", "c")
            return Words(f"{adjective.ko} {topic.ko}", adjective.ja + topic.ja)
        return topic

    def _ko(self, slot: Slot, value: Words | Noun | Predicate) -> str:
        if isinstance(value, Predicate):
            return value.inflect(slot.form, self.level).ko
        if slot.form:
            after_consonant, after_vowel = COPULA[slot.form][0][self.level]
            closed = is_syllable(value.ko[-1]) and final(value.ko[-1]) != ""
            return value.ko + (after_consonant if closed else after_vowel)
        return fit_particle(value.ko, slot.particle) if slot.particle else value.ko

    def _ja(self, slot: Slot, value: Words | Noun | Predicate) -> str:
        if isinstance(value, Predicate):
            return value.inflect(slot.form, self.level).ja
        if slot.form:
            return value.ja + COPULA[slot.form][1][self.level != "c"]
        return value.ja


@cache
def _compiled(bank: str) -> tuple[Template, ...]:
    templates = load_lexicon().templates
    if bank not in templates:
        raise ConfigError(f"scripted grammar: no bank of templates is called {bank!r}")
    return tuple(compile_template(line) for line in templates[bank])


@cache
def _fitting(banks: tuple[str, ...], casual: bool, genre: str, era: str, category: str) -> tuple[Template, ...]:
    return tuple(t for bank in banks for t in _compiled(bank) if _fits(t, casual, genre, era, category))


def _fits(template: Template, casual: bool, genre: str, era: str, category: str) -> bool:
    conditions = template.conditions
    levels = conditions & {"c", "p"}
    genres = conditions.intersection(GENRES)
    eras = conditions.intersection(ERAS)
    categories = conditions - levels - genres - eras
    if levels and ("c" if casual else "p") not in levels:
        return False
    if (genres and genre not in genres) or (eras and era not in eras):
        return False
    data = load_lexicon().categories.get(category)
    if data is None:
        return not categories and not template.has_topic
    if not data.gifts and any(name.startswith("gift") for name in template.names):
        return False
    return not categories or bool(categories & {data.name, data.group})
