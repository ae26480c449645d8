"""The data files of the scripted grammar: every line compiles, and every act can be answered whatever it is about."""

import re

import pytest

from rplab.backend.scripted.forms import COPULA
from rplab.backend.scripted.forms_ja import JA
from rplab.backend.scripted.forms_ko import KO
from rplab.backend.scripted.grammar import ERAS, GENRES, Scene, Slot, compile_template
from rplab.backend.scripted.lexicon import DATA, load_lexicon
from rplab.backend.scripted.moods import GENRE_CATEGORIES, acts_of, draw_topic
from rplab.errors import ConfigError
from rplab.seeding import derive

NOUN_SLOTS = {"t", "np", "you", "me", "place"}
PREDICATE_SLOTS = {"do", "gift", "adj", "face", "move"}


def forms_of(name):
    lexicon = load_lexicon()
    base = name.rstrip("0123456789")
    if name in lexicon.predicates or base in lexicon.sets or base in PREDICATE_SLOTS:
        return KO
    if base in NOUN_SLOTS or base in lexicon.phrases:
        return {"", *COPULA}
    return {""} if name in lexicon.closed else set()


def test_both_languages_know_the_same_forms():
    assert set(KO) == set(JA)


def test_every_template_compiles_and_names_known_slots_and_forms():
    wrong = []
    for bank, lines in load_lexicon().templates.items():
        for line in lines:
            template = compile_template(line)
            wrong += [
                (bank, line, part)
                for part in (*template.ko, *template.ja)
                if isinstance(part, Slot) and part.form not in forms_of(part.name)
            ]
    assert not wrong


def test_scripts_of_the_words_are_right():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DATA.glob("*.yaml"))
    pairs = [line.strip() for line in text.splitlines() if " = " in line and not line.strip().startswith("#")]
    for pair in pairs:
        for item in pair.split(", ") if "{" not in pair else [pair]:
            korean, _, japanese = item.partition(" = ")
            korean = korean.split(": ")[-1]
            assert not re.search("[\u3040-\u30ff\u4e00-\u9fff]", korean), item
            if "{" not in item:
                assert not re.search("[가-힣]", japanese), item


@pytest.mark.parametrize("genre", GENRES)
def test_every_act_about_every_topic_has_lines_in_both_levels(genre):
    lexicon = load_lexicon()
    for category in lexicon.categories.values():
        for level in ("c", "p"):
            scene = Scene(derive(1, genre, category.name), level, genre, ERAS[0], topic=category.nouns[0])
            for act in acts_of(category.group):
                scene.draw(*scene.banks("open", act))
                for polarity in ("pos", "neg"):
                    scene.draw(*scene.banks("re", "tell" if act == "news" else act, polarity))
            assert {"ask", "tell", "doubt", "resolve", "after", "news"} <= acts_of(category.group)


def test_topics_belong_to_the_era():
    for genre in GENRES:
        for era in ERAS:
            topics = [draw_topic(derive(i, genre, era), genre, era) for i in range(200)]
            assert all(topic.era in ("", era) and topic.category in GENRE_CATEGORIES[genre] for topic in topics)


@pytest.mark.parametrize("line", ["{t:은} 좋다", "{t:은} {좋다.e}. = {좋다.e}。"])
def test_a_bad_template_names_the_line(line):
    with pytest.raises(ConfigError, match="좋다"):
        compile_template(line)
