"""Cards of other tools: what is read, what is refused, what survives the way there and back, what a broken file does."""

import base64
import contextlib
import json
import struct
import time
import zipfile
import zlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.character import load_card
from rplab.character_cards.container import MAX_DEPTH, parse_card_json, png_with_card, read_card_file
from rplab.character_cards.exchange import Stated, export_card, import_card
from rplab.character_cards.gate import Refused, find_refused, stated_ages
from rplab.cli.main import main
from rplab.errors import ConfigError, DataError, LabError

DATA = {
    "name": "하루",
    "description": "{{char}}는 항구의 등대지기다.\n비 오는 밤을 좋아한다.\n성별: 여성",
    "personality": "차분하다, 꼼꼼하다, 농담을 좋아한다",
    "scenario": "{{user}}가 등대를 찾아온다.",
    "first_mes": '*{{char}}는 문을 연다.*\n"어서 와, {{user}}."',
    "mes_example": "<START>",
    "extensions": {"depth_prompt": {"depth": 4, "prompt": "x"}},
    "strange_field": [1, {"a": None}],
    "character_book": {
        "entries": [
            {"keys": ["등대"], "content": "@@depth 4\n백 년 된 {{random::a,b}}등대다.", "enabled": True, "id": 7, "extensions": {}},
            {"keys": ["(a+)+$"], "content": "패턴", "enabled": True, "use_regex": True},
            {"keys": ["밤"], "content": "꺼짐", "enabled": False},
        ]
    },
}
V2 = {"spec": "chara_card_v2", "spec_version": "2.0", "data": DATA}
ADULT = Stated(age=27)


def put(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_a_foreign_card_becomes_a_typed_card(tmp_path):
    found = import_card(put(tmp_path / "a.json", V2), ADULT)
    card = found.card
    assert (card.name, card.name_ja, card.age, card.gender) == ("하루", "ハル", 27, "여성")
    assert card.greeting == '하루는 문을 연다.\n"어서 와, 카즈키."'
    assert card.traits == ("차분하다", "꼼꼼하다", "농담을 좋아한다")
    assert [(entry.keys, entry.content) for entry in card.lore] == [(("등대",), "백 년 된 등대다.")]
    assert any("patterns" in note for note in found.notes)
    assert any("switched off" in note for note in found.notes)


def test_unknown_fields_come_out_again_and_the_way_back_is_exact(tmp_path):
    card = import_card(put(tmp_path / "a.json", V2), ADULT).card
    exported = export_card(card)
    data = exported["data"]
    assert exported["spec"] == "chara_card_v3"
    assert {key: data[key] for key in DATA if key != "extensions"} == {key: DATA[key] for key in DATA if key != "extensions"}
    assert data["extensions"]["depth_prompt"] == {"depth": 4, "prompt": "x"}
    again = import_card(put(tmp_path / "b.json", exported), Stated()).card
    assert again.model_copy(update={"carried": card.carried}) == card
    assert export_card(again) == exported


def test_an_edited_lorebook_is_what_comes_out(tmp_path):
    card = import_card(put(tmp_path / "a.json", V2), ADULT).card
    exported = export_card(card.model_copy(update={"lore": ()}))
    assert exported["data"]["character_book"]["entries"] == []


def test_command_line_there_and_back_through_png(tmp_path, capsys):
    assert main(["card", "export", "saya", str(tmp_path / "saya.png")]) == 0
    assert main(["card", "import", str(tmp_path / "saya.png"), str(tmp_path / "saya.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "사야"
    again = load_card("./saya.yaml", tmp_path)
    assert again.model_copy(update={"carried": ""}) == load_card("saya")
    assert yaml.safe_load((tmp_path / "saya.yaml").read_text("utf-8"))["age"] == 24


def test_a_card_without_an_age_is_refused_with_the_remedy(tmp_path, capsys):
    path = put(tmp_path / "a.json", V2)
    assert main(["card", "import", str(path), str(tmp_path / "o.yaml")]) == 2
    assert "--age 24" in capsys.readouterr().err
    assert main(["card", "import", str(path), str(tmp_path / "o.yaml"), "--age", "19"]) == 2
    assert not (tmp_path / "o.yaml").exists()
    assert main(["card", "import", str(path), str(tmp_path / "o.yaml"), "--age", "24"]) == 0


def test_a_stated_age_is_read_and_two_different_ones_are_asked_about(tmp_path):
    told = {**DATA, "description": DATA["description"] + "\n나이: 31"}
    assert import_card(put(tmp_path / "a.json", told), Stated()).card.age == 31
    with pytest.raises(ConfigError, match="more than one age"):
        import_card(put(tmp_path / "b.json", {**told, "personality": "40 years old"}), Stated())


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("description", "하루는 고등학생이다.", Refused.CHILDLIKE),
        ("description", "a H\u200bigh-School student", Refused.CHILDLIKE),
        ("description", "ＴＥＥＮ", Refused.CHILDLIKE),
        ("tags", ["NSFW"], Refused.SEXUAL),
        ("creator_notes", "an erotic story", Refused.SEXUAL),
        ("description", "17살이다.", Refused.UNDERAGE),
        ("extensions", {"x": {"y": "열일곱 살"}}, Refused.UNDERAGE),
        ("age", 16, Refused.UNDERAGE),
        ("extensions", {"x": {"Age": "19 years"}}, Refused.UNDERAGE),
        ("description", "a seventeen-year-old", Refused.UNDERAGE),
        ("description", "十七歳です", Refused.UNDERAGE),
        ("description", "고3이다.", Refused.CHILDLIKE),
        ("description", "a 10th grade student", Refused.UNDERAGE),
        ("alternate_greetings", ["She is 16 years old."], Refused.UNDERAGE),
    ],
)
def test_refused_cards_get_reason_codes_without_their_text(tmp_path, field, text, reason):
    path = put(tmp_path / "a.json", {**V2, "data": {**DATA, field: text}})
    with pytest.raises(ConfigError) as caught:
        import_card(path, ADULT)
    assert reason.value in str(caught.value)
    assert field in str(caught.value)
    for quoted in ("고등학생", "NSFW", "erotic", "17", "열일곱", "16"):
        assert quoted not in str(caught.value).replace(str(path), "")


def test_an_age_field_states_the_age_and_terminal_escapes_are_taken_out(tmp_path):
    raw = {**DATA, "age": 33, "name": "하\x1b[2J루", "personality": "차분\x07하다"}
    card = import_card(put(tmp_path / "a.json", raw), Stated(name_ja="ハル")).card
    assert card.age == 33
    assert card.name == "하[2J루"
    assert card.traits == ("차분하다",)


def test_harmless_words_are_not_taken_for_others():
    text = "성기사의 전성기, 칼로리와 쇼타임, 21세기의 3세대, 서른두 살, 스물네 살, childhood friend, grass, Essex, 개발정보"
    text += ", 二十四歳, 대학교 2학년, 최고 3위, 23 years old"
    assert find_refused({"description": text}) == []
    assert stated_ages("27살이고 24 years old, Age: 31, 나이 - 40") == [27, 24, 31, 40]


def chunk(kind, body, crc=None):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)


PNG = b"\x89PNG\r\n\x1a\n"
GOOD = png_with_card({"chara": json.dumps(V2).encode()})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not UTF-8 JSON"),
        (b"[1]", "no object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\\ud800"}', "not UTF-8 JSON"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply|not UTF-8 JSON"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", f"more than {MAX_DEPTH} deep"),
        (b'{"a":[' + b"1," * 60_000 + b"1]}", "values"),
        (b'{"a": "' + b"x" * (2 * 2**20) + b'"}', "larger than 2 MiB"),
        (PNG + chunk(b"IEND", b""), "without a card"),
        (GOOD[:-20], "ends in the middle"),
        (GOOD.replace(b"chara\0", b"chara\0A", 1), "checksum|ends in the middle"),
        (PNG + struct.pack(">I", 0xFFFFFFFF) + b"tEXt", "ends in the middle"),
        (PNG + chunk(b"tEXt", b"chara\0!!!!") + chunk(b"IEND", b""), "not base64"),
        (PNG + chunk(b"tEXt", b"chara\0" + base64.b64encode(b"[]")) + chunk(b"IEND", b""), "no object"),
        (b"PK\x03\x04broken", "damaged"),
    ],
)
def test_broken_files_give_a_clear_error(tmp_path, data, message):
    path = tmp_path / "card"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_card_file(path)


def test_v3_comes_before_v2_in_a_png_and_charx_is_read_within_its_limit(tmp_path):
    newer = {**V2, "data": {**DATA, "name": "새이름"}}
    (tmp_path / "a.png").write_bytes(png_with_card({"chara": json.dumps(V2).encode(), "ccv3": json.dumps(newer).encode()}))
    assert read_card_file(tmp_path / "a.png")["data"]["name"] == "새이름"
    with zipfile.ZipFile(tmp_path / "a.charx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", json.dumps(V2))
        archive.writestr("../../evil", "x")
    assert read_card_file(tmp_path / "a.charx") == V2
    with zipfile.ZipFile(tmp_path / "bomb.charx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", b"0" * (64 * 2**20))
    with pytest.raises(DataError, match="larger than 2 MiB"):
        read_card_file(tmp_path / "bomb.charx")


def test_a_picture_keeps_its_pixels_and_loses_its_old_card(tmp_path):
    (tmp_path / "old.png").write_bytes(GOOD)
    data = png_with_card({"ccv3": json.dumps({**V2, "data": {**DATA, "name": "새"}}).encode()}, tmp_path / "old.png")
    assert data.count(b"tEXt") == 1
    assert data[:1000] == GOOD[:1000] or b"IDAT" in data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*DATA, "entries", "keys", "content", "data", "rplab", "player"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*DATA, "data", "spec"]), JSON, max_size=8))
def test_any_json_is_a_card_or_a_clear_error(tmp_path_factory, value):
    path = put(tmp_path_factory.getbasetemp() / "fuzz.json", value)
    try:
        card = import_card(path, ADULT).card
    except LabError:
        return
    assert card.age >= 20
    assert parse_card_json(json.dumps(export_card(card)).encode(), path)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..\\..\\x", "\\1\\g<0>", "$(id)", "%s%n", "사\x00야"])
def test_a_strange_name_is_only_a_name(name, tmp_path):
    path = tmp_path / "card.json"
    data = {"name": name, "description": "나이: 27\n{{char}}의 카페", "personality": "차분하다", "first_mes": "{{user}}, 어서 와."}
    path.write_text(json.dumps({"spec": "chara_card_v2", "data": data}), encoding="utf-8")

    imported = import_card(path, Stated(name_ja="サヤ"))

    assert imported.card.name == name.replace("\x00", "")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["card.json"]


def test_a_huge_text_in_a_card_is_read_in_a_moment(tmp_path):
    path = tmp_path / "card.json"
    for text in ("age " * 100_000, "나이: 27" + " " * 400_000 + "x", "{{" * 50_000):
        data = {"name": "사야", "description": text, "personality": text[:10], "first_mes": "어서 와."}
        path.write_text(json.dumps({"spec": "chara_card_v2", "data": data}), encoding="utf-8")
        started = time.process_time()
        with contextlib.suppress(LabError):
            import_card(path, Stated(name_ja="サヤ", age=27))
        assert time.process_time() - started < 20  # CPU time; catastrophic matching would take hours
