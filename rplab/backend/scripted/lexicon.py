"""Words of the grammar, read from `data/*.yaml`: nouns by category, predicates, phrases, closed words.

A line of a word list is `KO = JA`; a predicate is `KO pos = JA kind` (마시다 v = 飲む g). What can be done with a
category's nouns is written with both particles: `을 마시다 v = を飲む g`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rplab.backend.scripted.forms import inflect_ja, inflect_ko
from rplab.backend.scripted.forms_ko import Level
from rplab.backend.scripted.hangul import PARTICLES, fit_particle
from rplab.errors import ConfigError

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Words:
    """A word or phrase in both languages."""

    ko: str
    ja: str


@dataclass(frozen=True)
class Noun:
    """A thing that can be talked about."""

    ko: str
    ja: str
    category: str
    era: str = ""
    """The only era it belongs to, or empty."""


@dataclass(frozen=True)
class Predicate:
    """A verb or adjective, with the words that come before it."""

    ko: str
    pos: str
    ja: str
    kind: str
    before_ko: str = ""
    before_ja: str = ""

    def inflect(self, form: str, level: Level) -> Words:
        """Return the form in both languages."""
        return Words(
            self.before_ko + inflect_ko(self.ko, self.pos, form, level),
            self.before_ja + inflect_ja(self.ja, self.kind, form, level != "c"),
        )


@dataclass(frozen=True)
class Action:
    """What can be done with the nouns of a category: a predicate with its particles."""

    particle: str
    predicate: Predicate
    particle_ja: str

    def on(self, noun: Noun | Words) -> Predicate:
        """Return the predicate with the noun before it."""
        p = self.predicate
        before = fit_particle(noun.ko, self.particle) if self.particle in PARTICLES else noun.ko + self.particle
        return Predicate(p.ko, p.pos, p.ja, p.kind, before + " ", noun.ja + self.particle_ja)


@dataclass(frozen=True)
class Category:
    """Nouns that behave alike."""

    name: str
    nouns: tuple[Noun, ...]
    adjectives: tuple[Predicate, ...]
    actions: tuple[Action, ...]
    gifts: tuple[Action, ...] = ()
    """What one person can do with it for the other."""
    group: str = ""
    """How it is talked about: fun, goods, work, heart, pain, peril."""


@dataclass(frozen=True)
class Lexicon:
    """Everything read from the data files."""

    categories: Mapping[str, Category]
    predicates: Mapping[str, Predicate]
    phrases: Mapping[str, tuple[Words, ...]]
    closed: Mapping[str, Mapping[str, Words]]
    """Word -> level or "any" -> form; pronouns and interjections."""
    templates: Mapping[str, tuple[str, ...]]
    sets: Mapping[str, tuple[Predicate, ...]]
    """Named groups of predicates, for example what bodies do when somebody is glad."""
    nouns: Mapping[str, Noun] = field(default_factory=dict)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def _pair(line: str, source: str) -> tuple[str, str]:
    left, separator, right = line.partition(" = ")
    if not separator:
        raise ConfigError(f"{source}: no ' = ' between Korean and Japanese in {line!r}")
    return left.strip(), right.strip()


def _predicate(line: str, source: str) -> Predicate:
    left, right = _pair(line, source)
    ko, _, pos = left.rpartition(" ")
    ja, _, kind = right.rpartition(" ")
    if pos not in ("v", "a") or kind not in tuple("giskan"):
        raise ConfigError(f"{source}: not 'KO v|a = JA g|i|s|k|a|n' in {line!r}")
    return Predicate(ko, pos, ja, kind)


def _action(line: str, source: str) -> Action:
    p = _predicate(line, source)
    particle, _, ko = p.ko.partition(" ")
    particle_ja, ja = next(
        (m, p.ja[len(m) :]) for m in ("には", "の", "を", "に", "で", "が", "から", "と", "へ", "も") if p.ja.startswith(m)
    )
    return Action(particle, Predicate(ko, p.pos, ja, p.kind), particle_ja)


def _category(name: str, data: Mapping[str, Any], predicates: Mapping[str, Predicate]) -> Category:
    source = f"categories.{name}"
    nouns: list[Noun] = []
    for era, text in data["nouns"].items():
        for item in _lines(text.replace(",", "\n")):
            ko, ja = _pair(item, source)
            nouns.append(Noun(ko, ja, name, "" if era == "all" else era))
    return Category(
        name=name,
        nouns=tuple(nouns),
        adjectives=tuple(predicates[word] for word in data["adjectives"].split()),
        actions=tuple(_action(line, source) for line in _lines(data["actions"])),
        gifts=tuple(_action(line, source) for line in _lines(data.get("gifts", ""))),
        group=data["group"],
    )


def _words(text: str, source: str) -> tuple[Words, ...]:
    return tuple(Words(*_pair(line, source)) for line in _lines(text))


def _closed(text: str) -> dict[str, dict[str, Words]]:
    """Read `name | casual ko | polite ko | casual ja | polite ja | casual ja of a man`."""
    words: dict[str, dict[str, Words]] = {}
    for line in _lines(text):
        name, ko_c, ko_p, ja_c, ja_p, *man = (part.strip() for part in line.split("|"))
        words[name] = {"c": Words(ko_c, ja_c), "p": Words(ko_p, ja_p)}
        if man:
            words[name] |= {"cm": Words(ko_c, man[0]), "pm": Words(ko_p, man[0])}
    return words


@cache
def load_lexicon() -> Lexicon:
    """Read the data files (once)."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    merged: dict[str, dict[str, Any]] = {}
    for path in sorted(DATA.glob("*.yaml")):
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        for section, entries in data.items():
            if section == "drafts":
                continue  # Korean only, read by scenario.py
            known = merged.setdefault(section, {})
            if double := known.keys() & entries.keys():
                raise ConfigError(f"{path}: {section} {sorted(double)} stand in another file too")
            known.update(entries)
    predicates: dict[str, Predicate] = {}
    for group, text in merged["predicates"].items():
        for line in _lines(text):
            predicate = _predicate(line, group)
            predicates[predicate.ko] = predicate
    sets = {name: tuple(_predicate(line, name) for line in _lines(text)) for name, text in merged["sets"].items()}
    categories = {name: _category(name, data, predicates) for name, data in merged["categories"].items()}
    closed: dict[str, dict[str, Words]] = {}
    for text in merged["closed"].values():
        closed |= _closed(text)
    return Lexicon(
        categories=categories,
        predicates=predicates,
        phrases={name: _words(text, name) for name, text in merged["phrases"].items()},
        closed=closed,
        templates={name: tuple(_lines(text)) for name, text in merged["templates"].items()},
        sets=sets,
        nouns={noun.ko: noun for category in categories.values() for noun in category.nouns},
    )
