"""Character Card V1/V2/V3 -> our typed card and back.

What a foreign card does not say is asked for on the command line; what it says at length is shortened to our fields, and
every shortening is reported. The original fields are carried along and written again on export, so nothing gets lost on
the way through this project. Our own fields travel in `extensions.rplab`, which makes the way there and back exact.
Nothing of a card is executed: macros are filled or dropped, keys of the lorebook are plain words, entries with patterns
are carried but not used.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rplab.character import MIN_AGE, Card, LoreEntry, parse_card
from rplab.character_cards.container import read_card_file
from rplab.character_cards.gate import find_refused, numbers_of_age, stated_ages
from rplab.character_cards.kana import to_kana
from rplab.errors import ConfigError
from rplab.text.korean import compose

OURS = "rplab"
"""Name of our block in a card's `extensions`."""
_LINE, _GREETING, _TRAIT, _LORE, _ENTRIES = 400, 600, 60, 4000, 500
_MACRO = re.compile(r"\{\{[^{}\n]{0,200}\}\}")
_DECORATOR = re.compile(r"(?m)^@@.*\n?")


@dataclass(frozen=True)
class Stated:
    """What the user states beside the card; None: the card must say it."""

    name: str | None = None
    name_ja: str | None = None
    age: int | None = None
    gender: str | None = None
    register: str | None = None
    role: str | None = None
    world: str | None = None
    situation: str | None = None
    relationship: str | None = None
    player_name: str | None = None
    player_name_ja: str | None = None
    player_age: int | None = None
    player_gender: str | None = None


@dataclass
class Imported:
    """A typed card and what became of the rest."""

    card: Card
    notes: list[str] = field(default_factory=list)


def import_card(path: Any, stated: Stated) -> Imported:
    """Read a card file of any supported kind.

    Raises:
        DataError: The file is damaged or no card.
        ConfigError: The card is refused (reason codes), or something has to be stated (with the option to do so).
    """
    raw = read_card_file(path)
    if findings := find_refused(raw):
        listed = ", ".join(f"{item.field}: {item.reason.value}" for item in findings[:8])
        more = f" and {len(findings) - 8} more" if len(findings) > 8 else ""
        raise ConfigError(
            f"{path}: this card is refused ({listed}{more}). Cards here are for general audiences and every character is an adult of "
            f"{MIN_AGE} or more; reword the named fields if they were misunderstood"
        )
    data = _fields(raw, path)
    notes: list[str] = []
    extensions = data.get("extensions")
    ours = extensions.get(OURS) if isinstance(extensions, dict) else None
    carried = {key: value for key, value in data.items() if key != "extensions"}
    if isinstance(extensions, dict):
        carried["extensions"] = {key: value for key, value in extensions.items() if key != OURS}
    typed = dict(_printable(ours)) if isinstance(ours, dict) else _typed(_printable(data), stated, notes, path)
    typed = {**typed, **_overrides(stated)}
    if isinstance(typed.get("player"), dict):
        typed["player"] = {**typed["player"], **_player_overrides(stated)}
    typed["carried"] = json.dumps(carried, ensure_ascii=False, sort_keys=True)
    return Imported(parse_card(typed, path), notes)


def _fields(raw: Mapping[str, Any], path: Any) -> dict[str, Any]:
    data = raw.get("data")
    fields = dict(data) if isinstance(data, dict) else {key: value for key, value in raw.items() if key not in ("spec", "spec_version")}
    if not isinstance(fields.get("name"), str) or not any(
        isinstance(fields.get(key), str) for key in ("description", "personality", "first_mes")
    ):
        raise ConfigError(f"{path}: not a character card (name and description, personality or first_mes are missing). Export it again")
    return fields


def _printable(value: Any) -> Any:
    """Return a JSON value with the control characters (terminal escapes) taken out of its texts."""
    if isinstance(value, str):
        return "".join(char for char in value if char in "\n\t" or unicodedata.category(char) != "Cc")
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _overrides(stated: Stated) -> dict[str, Any]:
    names = ("name", "name_ja", "age", "gender", "register", "role", "world", "situation", "relationship")
    return {name: value for name in names if (value := getattr(stated, name)) is not None}


def _player_overrides(stated: Stated) -> dict[str, Any]:
    names = ("name", "name_ja", "age", "gender")
    return {name: value for name in names if (value := getattr(stated, f"player_{name}")) is not None}


def _typed(data: Mapping[str, Any], stated: Stated, notes: list[str], path: Any) -> dict[str, Any]:
    """Map the fields of a foreign card onto ours."""
    name = _short(stated.name or _text(data, "nickname") or _text(data, "name"), 20, "name", notes)
    player = _player(stated, path)
    clean = {key: _fill(_text(data, key), name, player["name"]) for key in ("description", "personality", "scenario", "first_mes")}
    about = _paragraphs(clean["description"]) or _paragraphs(clean["personality"]) or [name]
    card: dict[str, Any] = {
        "name": name,
        "name_ja": stated.name_ja or _kana(name, "--name-ja", path),
        "age": stated.age if stated.age is not None else _age(data, path),
        "role": _short(about[0], _LINE, "role", notes),
        "traits": _traits(clean["personality"] or clean["description"], notes),
        "world": _short(" ".join(about[1:]) or about[0], _LINE, "world", notes),
        "situation": _short(" ".join(_paragraphs(clean["scenario"])) or "두 사람이 이야기를 나누고 있다", _LINE, "situation", notes),
        "relationship": stated.relationship or "이야기를 나누는 상대",
        "player": player,
        "greeting": _short(clean["first_mes"].replace("*", ""), _GREETING, "greeting", notes, one_line=False),
        "lore": _lore(data.get("character_book"), name, player["name"], notes),
    }
    if (gender := _gender(clean["description"])) is not None:
        card["gender"] = gender
    return card


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return compose(value).strip() if isinstance(value, str) else ""


def _player(stated: Stated, path: Any) -> dict[str, Any]:
    """Return the player: as stated, else the player of the bundled cards (카즈키, 26)."""
    name = stated.player_name or "카즈키"
    if stated.player_name and stated.player_age is None:
        raise ConfigError(f"{path}: the player's age is not stated. Add an adult age, for example --player-age 26")
    return {
        "name": name,
        "name_ja": stated.player_name_ja or _kana(name, "--player-name-ja", path),
        "age": stated.player_age if stated.player_age is not None else 26,
        "gender": stated.player_gender or "남성",
    }


def _kana(name: str, option: str, path: Any) -> str:
    kana = to_kana(name)
    if kana is None:
        raise ConfigError(f"{path}: how the name is spoken in Japanese is not known. Add {option} in kana, for example {option} サヤ")
    return kana[:20]


def _age(data: Mapping[str, Any], path: Any) -> int:
    """Return the one age that the card states."""
    ages = {age for key in ("description", "personality") for age in stated_ages(_text(data, key))}
    ages |= {int(years) for field, years in numbers_of_age(dict(data)) if field in ("age", "extensions.age")}
    if len(ages) == 1:
        return ages.pop()
    problem = "states no age" if not ages else "states more than one age"
    raise ConfigError(f"{path}: the card {problem}. State the character's adult age, {MIN_AGE} or more, for example --age 24")


def _gender(text: str) -> str | None:
    match = re.search(r"(?i)(?:성별|gender|sex)\W{0,6}(여|남|female|male|woman|man)", text)
    return None if match is None else "여성" if match[1].lower() in ("여", "female", "woman") else "남성"


def _fill(text: str, character: str, player: str) -> str:
    """Fill the two name macros and drop every other."""
    text = re.sub(r"(?i)\{\{char\}\}|<bot>|<char>", lambda _: character, text)
    text = re.sub(r"(?i)\{\{user\}\}|<user>", lambda _: player, text)
    return _MACRO.sub("", text).replace("{", "(").replace("}", ")")


def _paragraphs(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip(" -*#=\t")]


def _traits(text: str, notes: list[str]) -> list[str]:
    parts = [" ".join(part.split()) for part in re.split(r"[,\n;·、/+|.]+|\s-\s", text)]
    traits = [part for part in dict.fromkeys(parts) if 2 <= len(part) <= _TRAIT] or [_short(text or "차분하다", _TRAIT, "traits", notes)]
    if len(traits) > 6:
        notes.append(f"traits: the first 6 of {len(traits)} are used")
    return traits[:6]


def _short(text: str, limit: int, name: str, notes: list[str], *, one_line: bool = True) -> str:
    """Cut a text at the end of a sentence (or word) within the limit, and say so."""
    text = " ".join(text.split()) if one_line else text.strip()
    if len(text) <= limit:
        return text
    cut = text[:limit]
    end = max(cut.rfind(mark) for mark in (". ", ".\n", "! ", "? ", '"\n', "。"))
    kept = cut[: end + 1] if end > limit // 3 else cut.rsplit(" ", 1)[0]
    notes.append(f"{name}: {len(kept)} of {len(text)} characters are used")
    return kept.strip()


def _lore(book: Any, character: str, player: str, notes: list[str]) -> list[dict[str, Any]]:
    entries = book.get("entries") if isinstance(book, dict) else None
    if isinstance(entries, dict):  # some tools write {"0": {...}}
        entries = list(entries.values())
    found: list[dict[str, Any]] = []
    left: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        reason = _refuse_entry(entry)
        if reason is None and len(found) >= _ENTRIES:
            reason = "beyond 500 entries"
        if reason is not None:
            left[reason] = left.get(reason, 0) + 1
            continue
        content = _short(
            _fill(_DECORATOR.sub("", compose(entry["content"])), character, player), _LORE, f"lore[{len(found)}]", notes, one_line=False
        )
        found.append({"keys": _keys(entry["keys"], character, player), "content": content, **_when(entry, book, character, player)})
    notes += [f"lore: {number} left out ({reason}; kept for export)" for reason, number in left.items()]
    return found


def _keys(keys: Any, character: str, player: str) -> list[str]:
    filled = (_fill(key, character, player).strip()[:100] for key in keys if isinstance(key, str)) if isinstance(keys, list) else ()
    return [key for key in filled if key][:50]


def _when(entry: Mapping[str, Any], book: Any, character: str, player: str) -> dict[str, Any]:
    """Return when and how urgently an entry is told: its own fields, else those of the book."""
    secondary = _keys(entry.get("secondary_keys"), character, player) if entry.get("selective") is True else []
    depth = entry.get("scan_depth", book.get("scan_depth") if isinstance(book, dict) else None)
    priority = entry.get("priority")
    return {
        "secondary_keys": secondary,
        "constant": entry.get("constant") is True,
        "priority": max(-(2**31), min(2**31, priority)) if type(priority) is int else 0,
        "scan_depth": max(0, min(1000, depth)) if type(depth) is int else None,
    }


def _refuse_entry(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not isinstance(entry.get("keys"), list):
        return "not readable"
    has_keys = entry.get("constant") is True or any(isinstance(key, str) and key.strip() for key in entry["keys"])
    if not _DECORATOR.sub("", entry["content"]).strip() or not has_keys:
        return "no text or no keys"
    if entry.get("use_regex") is True:
        return "keys are patterns, which are never run"
    return "switched off" if entry.get("enabled") is False else None


def export_card(card: Card) -> dict[str, Any]:
    """Return the card as a Character Card V3 object; fields of an imported card that we do not use come out again.

    Raises:
        ConfigError: `carried` was edited and is no JSON object any more.
    """
    try:
        carried: Any = json.loads(card.carried) if card.carried else {}
    except ValueError:
        carried = None
    if not isinstance(carried, dict):
        raise ConfigError("the card's field 'carried' is damaged. Import the original card again, or delete the field")
    own = card.model_dump(mode="json", by_alias=True, exclude={"carried"})
    composed = {
        "description": f"이름: {card.name}\n나이: {card.age}\n성별: {card.gender}\n{card.role}\n{card.world}",
        "personality": ", ".join(card.traits),
        "scenario": f"{card.situation}\n{card.relationship}",
        "mes_example": "",
        "creator_notes": "",
        "system_prompt": "",
        "post_history_instructions": "",
        "alternate_greetings": [],
        "group_only_greetings": [],
        "tags": [],
        "creator": "",
        "character_version": "",
    }
    data: dict[str, Any] = {**composed, **carried, "name": card.name}
    if not carried or card.greeting:
        data["first_mes"] = carried.get("first_mes", card.greeting) if _same_greeting(card, carried) else card.greeting
    extensions = carried.get("extensions")
    data["extensions"] = {**(extensions if isinstance(extensions, dict) else {}), OURS: own}
    book: Any = carried.get("character_book")
    lore = [item.model_dump(mode="json") for item in card.lore]
    if lore != _lore(book, card.name, card.player.name, []):  # edited since it was imported, or written here
        kept = {"extensions": {}, **(book if isinstance(book, dict) else {})}
        data["character_book"] = {**kept, "entries": [_entry(item, number) for number, item in enumerate(card.lore)]}
    return {"spec": "chara_card_v3", "spec_version": "3.0", "data": data}


def _same_greeting(card: Card, carried: Mapping[str, Any]) -> bool:
    """Return whether the greeting is still the one that was imported."""
    original = carried.get("first_mes")
    if not isinstance(original, str):
        return False
    filled = _fill(compose(original).strip(), card.name, card.player.name).replace("*", "")
    return _short(filled, _GREETING, "", [], one_line=False) == card.greeting


def _entry(entry: LoreEntry, number: int) -> dict[str, Any]:
    return {
        "keys": list(entry.keys),
        "content": entry.content,
        "extensions": {},
        "enabled": True,
        "insertion_order": number,
        "use_regex": False,
        "secondary_keys": list(entry.secondary_keys),
        "selective": bool(entry.secondary_keys),
        "constant": entry.constant,
        "priority": entry.priority,
        **({} if entry.scan_depth is None else {"scan_depth": entry.scan_depth}),
    }


def as_v2(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a V3 object for readers that know V2 only."""
    return {**card, "spec": "chara_card_v2", "spec_version": "2.0"}
