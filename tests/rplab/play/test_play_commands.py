"""Slash commands: the story moves, nothing is lost, and every refusal says what to do."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rplab_play_fakes import RATE, Model, Translator, Voice

from rplab.character import load_card
from rplab.play.audio import NullSink
from rplab.play.config import PlayConfig
from rplab.play.conversation import Conversation, Opened
from rplab.play.engines import Engines
from rplab.play.memory_config import MemoryConfig
from rplab.play.prompt import World
from rplab.play.session import PlaySession, Scene
from rplab.play.sessions import open_session
from rplab.play.timeline import Timeline
from rplab.tts.wav import read_wav

CARD = load_card("saya")


@pytest.fixture(autouse=True)
def _korean(monkeypatch):
    monkeypatch.setattr("rplab.l10n.is_korean", lambda: True)


@dataclass(frozen=True)
class House:
    """The host, in a folder of the test."""

    sessions: Path
    extract: str = "rules"

    def open(self, session_id, card):
        person = load_card(card) if card else CARD
        world = World("너는 사야다.", person.name, person.player.name, "", person.lore, MemoryConfig(extract=self.extract))
        scene = Scene("너는 사야다.", (person.name, person.name_ja), (person.player.name,))
        return Opened(person, scene, Timeline(world, open_session(self.sessions, session_id, person.name)))


class Screen:
    subtitles = True

    def __init__(self):
        self.said = []

    def show(self, event):
        pass

    def end_text(self):
        pass

    def end_turn(self):
        pass

    def info(self, text):
        self.said.append(text)


def play(folder, *lines, voice=True, model=None, name="one", extract="rules"):
    """Return the conversation and what each line made the program say."""

    async def run():
        host = House(folder, extract)
        opened = host.open(name, None)
        model_ = model or Model(*[f'사야는 본다.\n"답 {index}."' for index in range(20)])
        engines = Engines(model_, Translator(), Voice(), NullSink(RATE)) if voice else Engines(model_, Translator())
        session = PlaySession(opened.scene, engines, PlayConfig(), opened.timeline)
        conversation = Conversation(session, opened, Screen(), host)
        said = []
        for line in lines:
            await conversation.handle(line)
            await session.rest()
            said.append("\n".join(conversation.screen.said))
            conversation.screen.said.clear()
        path = [(node.user, node.reply.split('"')[1]) for node in conversation.timeline.tree.path()]
        count = len(conversation.timeline.tree)
        await session.aclose()
        return said, path, count

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_story_is_drawn_again_turned_over_edited_and_branched_without_losing_anything(tmp_path):
    lines = [
        "안녕",
        "뭐 해?",
        "/다시",
        "/swipe 1",
        "/branch 여기",
        "/edit 어디 가?",
        "/undo",
        "/goto 여기",
        '/edit reply "쉬어."',
        "/goto start",
        "새 이야기",
    ]

    said, path, count = play(tmp_path, *lines)

    assert path == [("새 이야기", "답 4.")]
    assert count == 6
    assert "답변 2/2" in said[2]
    assert "답 1." in said[3]
    assert "어디 가?" in said[6]
    assert "[2] 뭐 해?" in said[7]
    assert "쉬어." in said[8]
    again, path, count = play(tmp_path, "/branch", "/goto 5")
    assert again[0].count("턴 ·") == 5
    assert [user for user, _ in path] == ["안녕", "뭐 해?"]
    assert count == 6


def test_memories_are_found_pinned_forgotten_and_corrected(tmp_path):
    said, _, _ = play(
        tmp_path,
        "나는 민트초코를 정말 좋아해.",
        "/mem",
        "나는 사실 민트초코를 싫어해.",
        "/mem pin 1",
        "/mem add 직업 = 목수",
        "/mem find 목수",
        "/mem forget 1",
        "/undo",
        "/mem",
    )

    assert "민트초코: 좋아한다" in said[1]
    assert "민트초코: 싫어한다  (앞서: 좋아한다)" in said[3]
    assert said[3].startswith("*")
    assert "직업: 목수" in said[5]
    assert "민트초코" not in said[6]
    assert "민트초코: 좋아한다" in said[8]
    assert "목수" not in said[8]


def test_model_says_what_to_remember_after_the_sound(tmp_path):
    row = {"type": "promise", "subject": "카즈키", "key": "바다", "value": "같이 간다", "confidence": 1, "future_impact": 1}
    answer = json.dumps({"candidates": [row, {"type": "fact"}]}, ensure_ascii=False)
    model = Model('"응."', answer)

    said, _, _ = play(tmp_path, "바다에 꼭 데려갈게", "/mem", model=model, extract="auto")

    assert "바다: 같이 간다" in said[1]
    assert "1개" in said[1]
    assert "바다에 꼭 데려갈게" in model.prompts[1][-1]["content"]


def test_model_that_cannot_say_what_to_remember_is_asked_no_more(tmp_path):
    model = Model('"응."')

    said, _, _ = play(tmp_path, "나는 커피를 싫어해.", "나는 부산에 살아.", "내 생일은 3월 2일이야.", "/mem", model=model, extract="auto")

    assert len(model.prompts) == 3 + 2
    for words in ("커피: 싫어한다", "사는 곳: 부산", "생일: 3월 2일"):
        assert words in said[3]


def test_lore_is_added_told_and_dropped(tmp_path):
    model = Model()
    said, _, _ = play(tmp_path, "/lore add 등대,바다 = 등대는 꺼졌다.", "바다로 갈까?", "/lore", "/lore drop 1", "/lore", model=model)

    assert "등대는 꺼졌다." in model.prompts[0][-1]["content"]
    assert said[2].startswith("*")
    assert "세계 설정이 없습니다" in said[4]


def test_conversation_is_copied_listed_and_loaded(tmp_path):
    said, path, _ = play(tmp_path, "안녕", "/save", "/save 사본", "또", "/load", "/load 사본", "/save 사본", "/load 없는것")

    assert "one.sqlite3" in said[1]
    assert "사본" in said[4]
    assert "'사본' 대화를 이어 갑니다 (1턴)" in said[5]
    assert path == [("안녕", "답 0.")]
    assert "이미 있습니다" in said[6]
    assert "없습니다" in said[7]


def test_export_writes_sound_subtitles_and_the_whole_tree(tmp_path):
    said, _, _ = play(
        tmp_path,
        "안녕",
        "/regen",
        f"/export wav {tmp_path / 'x.wav'}",
        f"/export srt {tmp_path / 'y.srt'}",
        f"/export jsonl {tmp_path / 'z.jsonl'}",
    )

    samples, rate = read_wav(tmp_path / "x.wav")
    assert rate == RATE
    assert len(samples) / rate == pytest.approx(0.2 + 0.9, abs=0.01)
    assert "00:00:00,000 --> 00:00:00,200\n답 1.\nはい、そうです。" in (tmp_path / "x.srt").read_text(encoding="utf-8")
    assert (tmp_path / "y.srt").read_text(encoding="utf-8") == (tmp_path / "x.srt").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (tmp_path / "z.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["type"] for row in rows] == ["session", "turn", "turn"]
    assert [row["on_path"] for row in rows[1:]] == [False, True]
    assert all("썼습니다" in text for text in said[2:])


def test_sound_is_muted_styled_and_played_again(tmp_path):
    said, _, _ = play(
        tmp_path,
        "/style happy",
        "/style 없음",
        "/voice speed 1.5",
        "/voice speed 9",
        "/voice x",
        "/mute",
        "/mute",
        "/ja off",
        "/ja x",
        "/device",
        "/card",
    )

    for text, words in zip(
        said, ("happy", "없음", "빠르기 1.5", "0.5", "이 목소리뿐", "껐습니다", "켰습니다", "off", "/일본어", "null", "헌책방"), strict=True
    ):
        assert words in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/regen", "다시 받을 답변이 없습니다"),
        ("/swipe", "넘길 답변이 없습니다"),
        ("/edit", "고칠 말이 없습니다"),
        ("/undo", "되돌릴 대화가 없습니다"),
        ("/branch 3", "숫자가 아닌"),
        ("/goto 7", "/가지"),
        ("/mem forget x", "번호가 필요합니다"),
        ("/mem forget 7", "7번 기억이 없습니다"),
        ("/lore add x", "/배경 add"),
        ("/export mp3", "wav|srt|jsonl"),
        ("/export wav", "번역된 대사가"),
        ("/export jsonl", "아직 쓸 대화가"),
        ("/card nobody", "nobody"),
        ("/voice", "목소리 없이"),
        ("/replay", "들려줄 소리가 없습니다"),
        ("/save ../x", "session id"),
        ("/regn", "/regen 말인가요?"),
        ("/help swipe", "다른 답변으로"),
        ("/help", "/export"),
        ("/stats", "아직 통계가 없습니다"),
    ],
)
def test_refusals_say_what_to_do(tmp_path, line, words):
    (said,), path, _ = play(tmp_path, line, voice=False)

    assert words in said
    assert path == []


def test_every_command_of_the_specification_is_there(tmp_path):
    (said,), _, _ = play(tmp_path, "/help", voice=False)

    story = ["regen", "swipe", "edit", "undo", "branch", "goto", "save", "load", "card", "lore", "mem"]
    sound = ["voice", "style", "ja", "mute", "replay", "device", "export", "stats", "help"]
    assert [name for name in story + sound if f"/{name} " not in said] == []
