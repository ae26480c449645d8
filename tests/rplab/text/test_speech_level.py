import subprocess
import sys

import pytest

from rplab.text.speech_level import Level, is_plain_narration, sentence_level, speech_level

POLITE = [
    "네, 알겠습니다.",
    "알겠어요.",
    "같이 가요.",
    "맞아요!",
    "그렇군요…",
    "앉으십시오.",
    "어디 가세요?",
    "저도 그렇게 생각해요.",
    "오늘은 춥네요.",
    "그럴까요?",
    "제가 할게요.",
    "기다리고 있었습니다.",
    "이쪽으로 오시죠.",
    "같이 가실래요?",
    "정말입니까?",
    "아니요.",
    "네.",
    "비가 와서요.",
    "저는요, 괜찮아요.",
    "알겠습니다, 카즈키 씨.",
    "고마워요, 하야토.",
    "그건 제 책이에요.",
    "벌써 가십니까?",
    "같이 갑시다.",
    "그랬던 거예요.",
    "너무 늦으셨잖아요.",
    "안녕히 가세요.",
]
CASUAL = [
    "알았어.",
    "같이 가자.",
    "오늘은 춥네.",
    "응.",
    "뭐 해?",
    "왜 이제 왔어?",
    "그건 내 책이야.",
    "기다렸지.",
    "같이 갈래?",
    "내가 할게.",
    "비가 오나 봐.",
    "정말 예쁘다.",
    "가지 마.",
    "얼른 와.",
    "네가 좋아.",
    "그랬구나.",
    "몰라, 그런 거.",
    "고마워, 카즈키.",
    "요리해요를 배웠다.",
    "어디 가니?",
    "밥은 먹었냐?",
    "이거 봐라.",
    "그만 좀 해.",
    "배고프다.",
    "필요해.",
    "알겠어, 소마.",
    "빨리 앉아.",
]


@pytest.mark.parametrize("line", POLITE)
def test_polite(line):
    assert speech_level(line) is Level.POLITE


@pytest.mark.parametrize("line", CASUAL)
def test_casual(line):
    assert speech_level(line) is Level.CASUAL


def test_both_levels_are_mixed_and_fragments_have_none():
    assert speech_level("뭐 하세요? 나 가.") is Level.MIXED
    assert speech_level("정말?") is Level.UNKNOWN
    assert speech_level("") is Level.UNKNOWN
    assert speech_level("……") is Level.UNKNOWN
    assert speech_level("정말? 알았어.") is Level.CASUAL
    assert sentence_level("카즈키…") is Level.UNKNOWN


def test_calls_and_interjections_do_not_decide():
    for call in ("사야?", "소마야!", "하늘아!", "카즈키야?", "마이.", "코하루 씨?"):
        assert speech_level(call) is Level.UNKNOWN, call
    assert speech_level("응? 뭐라고요?") is Level.POLITE
    assert speech_level("사야? 왜 그러세요?") is Level.POLITE
    assert speech_level("네? 뭐라고?") is Level.CASUAL
    assert speech_level("응.") is Level.CASUAL
    assert speech_level("네?") is Level.POLITE
    for line in ("책이요?", "왜요?", "그럼요.", "제 생각은요."):
        assert speech_level(line) is Level.POLITE, line
    assert speech_level("휴식은 필요.") is not Level.POLITE


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("사야는 걷는다. 문을 연다.", True),
        ("사야는 걷습니다.", False),
        ("사야는 걷는다. 웃네요.", False),
        ("사야는 듭니다.", False),
        ("사야는 웃었어.", False),
        ('코하루는 "비밀이에요."라고 적힌 상자를 민다.', True),
        ("천천히, 아주 천천히. 사야는 고개를 든다.", True),
        ("정말?", False),
        ("", False),
        ("사야는 창밖을 보았다", True),
    ],
)
def test_plain_narration(text, plain):
    assert is_plain_narration(text) is plain


def test_import_does_not_load_kiwi():
    code = "import sys, rplab.text.speech_level; sys.exit('kiwipiepy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
