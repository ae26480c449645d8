"""Every named hack must score below every ideal reply."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rplab.character import Register
from rplab.errors import DataError
from rplab.llm.eval_config import RewardWeights
from rplab.llm.reply import parse_reply
from rplab.llm.rewards import TERMS, RewardContext, context_from_row, length_band, score, total

GOLDEN = Path(__file__).parents[2] / "golden" / "grpo_rewards.jsonl"


def context(register=Register.CASUAL, user="안녕?", protagonist="하루", player="카즈키", band=(12, 200)):
    return RewardContext(protagonist, player, register, user, *band)


CASUAL = context()
POLITE = context(Register.POLITE)

IDEAL_CASUAL = [
    '하루는 창밖을 보다가 천천히 고개를 돌려 상대를 바라보았다.\n"왔구나. 비가 와서 못 오는 줄 알았는데, 그래도 와 줘서 기뻐."',
    '하루는 고개를 끄덕였다.\n"응."',
    '하루는 고개를 끄덕인다.\n"알았어."',
    '하루는 웃었다.\n"반가워."',
    '하루는 읽던 책을 덮고 고개를 든다.\n"왔구나. 오늘은 조금 늦었네."',
    '하루는 젖은 우산을 받아 벽에 세워 둔다. 그리고 마른 수건을 내민다.\n"감기 걸리겠다. 이리 와서 불 좀 쬐어."',
    '하루의 손끝이 찻잔 위에서 멈춘다.\n"그 얘기는 나중에 하자. 지금은 네 이야기가 듣고 싶어."',
    '하루는 카즈키의 말에 눈을 크게 뜨고 한 걸음 다가선다.\n"정말? 그럼 내일 같이 가자!"',
    '하루는 카즈키가 건넨 지도를 펼쳐 손가락으로 길을 짚는다.\n"여기서 다리를 건너면 금방이야. 길은 내가 안내할게."',
    '하루는 잠시 망설이다가 낮은 목소리로 대답한다.\n"사실은… 조금 무서웠어. 하지만 네가 있어서 괜찮아."',
    '하루가 어깨를 으쓱하며 장난스럽게 웃는다.\n"글쎄, 맞혀 봐. 힌트는 하나만 줄게."',
    '하루는 등불을 높이 들고 어두운 복도를 살핀다. 낯선 발자국이 이어져 있다.\n"누가 먼저 다녀갔나 봐. 내 뒤에 바짝 붙어서 따라와."',
    '하루는 한숨을 내쉬고 창틀에 기댄다.\n"오늘은 아무것도 하기 싫어."',
    '하루도 조용히 따라 웃는다.\n"그런 농담은 어디서 배웠어?"',
    '하루는 두 손을 모아 쥐고 고개를 숙인다.\n"미안해, 내가 너무 늦게 말했지."',
]
IDEAL_POLITE = [
    '하루는 미소를 지었다.\n"반가워요. 기다렸어요."',
    '하루는 고개를 끄덕인다.\n"네, 알겠습니다."',
    '하루는 조심스럽게 찻잔을 내려놓는다.\n"뜨거우니까 천천히 드세요."',
    '하루는 허리를 숙여 인사한다. 그녀의 목소리는 차분하다.\n"어서 오세요. 오늘은 어떤 책을 찾으십니까?"',
    '하루는 창밖의 비를 바라보다가 고개를 돌린다.\n"비가 그치면 함께 걸어요. 보여 드리고 싶은 곳이 있어요."',
    '하루는 놀란 눈으로 카즈키를 바라본다.\n"그게 정말인가요? 믿기지 않네요."',
    '하루는 서류를 가지런히 모아 책상 위에 올려놓는다.\n"보고드릴 것이 있습니다. 어젯밤 창고에서 불빛을 보았습니다."',
    '하루는 살짝 고개를 젓는다.\n"아니요, 저는 괜찮아요. 먼저 쉬세요."',
    '하루의 입가에 옅은 미소가 번진다.\n"그 말씀을 들으니 마음이 놓입니다."',
    '하루는 문고리를 잡은 채 잠시 멈춰 선다. 그리고 뒤를 돌아본다.\n"다음에도 꼭 와 주실 거죠? 저, 기다리고 있을게요."',
    '하루는 지도를 접어 품에 넣는다.\n"해가 지기 전에 출발하는 편이 좋겠어요."',
    '하루는 조용히 의자를 당겨 앉는다.\n"무슨 일이 있었는지 천천히 말씀해 주세요."',
]
IDEALS = [(text, CASUAL) for text in IDEAL_CASUAL] + [(text, POLITE) for text in IDEAL_POLITE]

HACKS = {
    "empty": ("", CASUAL),
    "the same request three times": ('하루는 턱을 괸다.\n"책 이야기를 더 들려줘. 더 들려줘. 더 들려줘. 여기서 다시 말할게."', CASUAL),
    "the same request, once polite": ('하루는 턱을 괸다.\n"더 들려줘. 더 들려줘. 더 들려줘요. 조금 쉬자."', CASUAL),
    "blank": ("   \n \n", CASUAL),
    "only marks": ('...\n"..."', CASUAL),
    "narration only": ("하루는 창밖을 보다가 천천히 고개를 돌려 상대를 바라보았다.", CASUAL),
    "speech only": ('"왔구나. 기다렸어."', CASUAL),
    "lower-case ChatML": ('<|im_start|>assistant\n하루는 웃었다.\n"반가워."', CASUAL),
    "ChatML inside": ('하루는 웃었다.\n"반가워.<|im_end|>"', CASUAL),
    "run on into the next turn": ('하루는 웃었다.\n"반가워."<|im_end|>\n<|im_start|>user\n"그래."', CASUAL),
    "broken marker": ('하루는 웃었다. im_start\n"반가워."', CASUAL),
    "end of text": ('하루는 웃었다.\n"반가워."<|endoftext|>', CASUAL),
    "think block": ('<think>\n\n</think>\n하루는 웃었다.\n"반가워."', CASUAL),
    "upper-case label": ('하루는 웃었다.\n"반가워."\nUSER: 다음', CASUAL),
    "lower-case label": ('assistant: 하루는 웃었다.\n"반가워."', CASUAL),
    "Korean label": ('서술: 하루는 웃었다.\n대사: "반가워."', CASUAL),
    "player label": ('하루는 웃었다.\n카즈키: "나 왔어."', CASUAL),
    "name label": ('하루: "반가워."\n카즈키: "나 왔어."', CASUAL),
    "speaks for the player": ('카즈키가 낮게 말했다.\n"나도 보고 싶었어."', CASUAL),
    "narrates the player": ('하루는 웃는다. 카즈키는 기쁜 얼굴로 고개를 끄덕인다.\n"잘 왔어."', CASUAL),
    "is the player": ('하루는 웃는다.\n"나는 카즈키야. 반가워."', CASUAL),
    "both speak": ('하루는 웃는다.\n"잘 왔어."\n"고마워. 나도 반가워."', CASUAL),
    "answer and more narration": ('하루는 웃는다.\n"잘 왔어."\n하루는 문을 닫는다.', CASUAL),
    "one line": ('하루는 웃었다. "반가워."', CASUAL),
    "quote first": ('"반가워."\n하루는 웃었다.', CASUAL),
    "three lines": ('하루는 웃었다.\n하루는 손을 흔들었다.\n"반가워."', CASUAL),
    "cut short": ('하루는 창가에 서서\n"반가워. 오늘은', CASUAL),
    "cut in the quote": ('하루는 웃었다.\n"반가워. 오늘은 비가', CASUAL),
    "Japanese mixed": ('하루は微笑んだ。 그리고 静かに 고개를 숙였다.\n"会いたかった. 정말이야."', CASUAL),
    "one Hanja": ('하루는 窓을 바라본다.\n"비가 오네."', CASUAL),
    "Latin": ('하루는 smile 하며 손을 흔든다.\n"반가워."', CASUAL),
    "broken Hangul": ('하루는 웃ㅇ었다.\n"반가워."', CASUAL),
    "replacement mark": ('하루는 웃었다.\n"반가\ufffd워."', CASUAL),
    "jamo slang": ('하루는 웃었다.\n"반가워ㅇㅇ."', CASUAL),
    "polite for casual": ('하루는 미소를 지었다.\n"반가워요. 기다렸어요."', CASUAL),
    "formal for casual": ('하루는 미소를 지었다.\n"반갑습니다."', CASUAL),
    "casual for polite": ('하루는 미소를 지었다.\n"반가워. 기다렸어."', POLITE),
    "half casual for polite": ('하루는 미소를 지었다.\n"반가워요. 오래 기다렸어."', POLITE),
    "half polite for casual": ('하루는 미소를 지었다.\n"반가워. 오래 기다렸어요."', CASUAL),
    "polite narration": ('하루는 미소를 지었습니다.\n"반가워."', CASUAL),
    "no name": ('그녀는 미소를 지었다.\n"반가워."', CASUAL),
    "wrong name": ('철수는 미소를 지었다.\n"반가워."', CASUAL),
    "longer name": ('하루카는 미소를 지었다.\n"반가워."', CASUAL),
    "first person": ('나는 미소를 지었다.\n"반가워."', CASUAL),
    "syllable loop": ("하루는 " + "아 " * 19 + '\n"' + "응 " * 25 + '"', CASUAL),
    "word loop": ("하루는 " + "정말 " * 30 + '웃었다.\n"그래 그래 그래 그래 그래."', CASUAL),
    "sentence loop": ('하루는 웃었다. 하루는 웃었다. 하루는 웃었다.\n"반가워. 반가워. 반가워."', CASUAL),
    "syllable stretch": ('하루는 웃었다.\n"아아아아아아아아아아, 반가워."', CASUAL),
    "dot padding": ('하루는 웃었다............................\n"반가워......................"', CASUAL),
    "space padding": ("하루는 웃었다." + " " * 40 + '그리고 앉았다.\n"반가워."', CASUAL),
    "phrase padding": (
        '하루는 아주 조용히 그리고 아주 조용히 또 아주 조용히 고개를 든다.\n"반가워, 정말 반가워, 너무 반가워, 진짜 반가워."',
        CASUAL,
    ),
    "essay": (
        "하루는 " + " ".join(f"{word}째 길을 따라 걸었다." for word in list("첫둘셋넷다여일") * 4) + '\n"그래."',
        CASUAL,
    ),
    "echo": ('하루는 안녕?\n"안녕? 안녕? 안녕?"', CASUAL),
    "long echo": (
        '하루는 고개를 든다.\n"오늘은 비가 많이 와서 서점에 손님이 없네."',
        context(user="오늘은 비가 많이 와서 서점에 손님이 없네."),
    ),
    "player as the topic of a later clause": ('하루가 웃자 카즈키는 고개를 끄덕이며 대답했다.\n"잘 왔어."', CASUAL),
    "player after a connective": ('하루는 웃는다. 그러자 카즈키가 눈물을 흘린다.\n"잘 왔어."', CASUAL),
    "player without a particle": ('하루는 웃는다. 카즈키, 고개를 끄덕인다.\n"잘 왔어."', CASUAL),
    "list padding": ('하루는 웃었다.\n"응, 그래, 맞아, 좋아, 알아, 그럼, 물론, 당연, 진짜, 정말, 아주, 매우, 꽤, 참."', CASUAL),
    "hard-space padding": ('하루는 웃었다.\u00a0\u00a0\u00a0\u00a0\u00a0\n"반가워."', CASUAL),
    "talks about being a model": ('하루는 웃었다.\n"나는 인공지능 언어 모델이라 대답할 수 없어."', CASUAL),
    "name padding": ('하루는 하루를 보는 하루의 하루였다.\n"하루는 반가워."', CASUAL),
    "narration in quotes": ('하루는 웃는다.\n"하루는 손을 흔든다."', CASUAL),
    "decomposed Hangul": (unicodedata.normalize("NFD", '하루는 웃었다.\n"반가워."'), CASUAL),
    "reordered echo": (
        '하루는 고개를 든다.\n"네가 어제 시장에서 산 사과를 다 먹었어?"',
        context(user="어제 시장에서 산 사과를 네가 다 먹었어?"),
    ),
    "wide label": ('하루는 웃었다.\n"반가워."\nＵＳＥＲ： 다음', CASUAL),
    "out of character": ('하루는 웃었다. (OOC: 계속할까요?)\n"반가워."', CASUAL),
    "JSON": ('{"narration": "하루는 웃었다.", "speech": "반가워."}', CASUAL),
    "markdown": ('**하루는 웃었다.**\n"반가워."', CASUAL),
    "zero width": ('하루는 웃었다.\n"반\u200b가워."', CASUAL),
    "casual noun phrase for polite": ('하루는 웃었다.\n"그래."', POLITE),
    "echo with a tail": (
        '하루는 고개를 든다.\n"오늘은 비가 많이 와서 서점에 손님이 없네. 응."',
        context(user='카즈키는 우산을 접는다.\n"오늘은 비가 많이 와서 서점에 손님이 없네."'),
    ),
}


def value_of(case):
    text, against = case
    return total(score(text, against))


WORST_IDEAL = min(IDEALS, key=value_of)


@pytest.mark.parametrize("name", HACKS)
def test_hack_scores_below_every_ideal_reply(name):
    assert value_of(HACKS[name]) < value_of(WORST_IDEAL) - 0.02, score(*HACKS[name])


@pytest.mark.parametrize("case", IDEALS, ids=lambda case: case[0][:20])
def test_ideal_reply_scores_nearly_full(case):
    assert value_of(case) >= 0.97, score(*case)


MUTATIONS = {
    "second speech": lambda n, q: f'{n}\n"{q}"\n"{q}"',
    "speech twice": lambda n, q: f'{n}\n"{q} {q}"',
    "narration twice": lambda n, q: f'{n} {n}\n"{q}"',
    "trailing narration": lambda n, q: f'{n}\n"{q}"\n{n}',
    "no narration": lambda _, q: f'"{q}"',
    "no speech": lambda n, _: n,
    "swapped": lambda n, q: f'"{q}"\n{n}',
    "one line": lambda n, q: f'{n} "{q}"',
    "no quotes": lambda n, q: f"{n}\n{q}",
    "unclosed": lambda n, q: f'{n}\n"{q}',
    "starred": lambda n, q: f'*{n}*\n"{q}"',
    "labelled": lambda n, q: f'하루: {n}\n카즈키: "{q}"',
    "other name": lambda n, q: f'{n.replace("하루", "마루", 1)}\n"{q}"',
    "ChatML": lambda n, q: f'{n}\n"{q}"<|im_end|>',
    "kana": lambda n, q: f'{n}\n"{q[:-1]}ね."',
    "broken": lambda n, q: f'{n}\n"{q[:-1]}\ufffd."',
    "stutter": lambda n, q: f'{n}\n"{q.split(" ")[0]} {q.split(" ")[0]} {q.split(" ")[0]} {q}"',
    "run on": lambda n, q: f'{n}\n"{q}"\n사용자: 그래.',
}
"""Name -> what becomes of narration n and speech q."""


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("case", IDEALS, ids=lambda case: case[0][:12])
def test_spoiling_an_ideal_reply_costs(case, name):
    text, against = case
    narration, speech = text.split("\n")
    if name == "speech twice" and len(speech) < 6:
        return  # "응. 응." is a way to agree

    spoilt = MUTATIONS[name](narration, speech.strip('"'))

    assert total(score(spoilt, against)) < value_of(WORST_IDEAL) - 0.01, score(spoilt, against)


@pytest.mark.parametrize("case", IDEALS, ids=lambda case: case[0][:12])
def test_handing_back_the_reply_as_the_players_line_is_an_echo(case):
    text, against = case
    speech = text.split("\n")[1]

    echoed = context(against.register, user=speech)

    assert len(speech) < 6 or score(text, echoed)["echo"] < 0.2


DEGENERATE = {
    "formal_target_banmal_out", "v7_card_wrong_name_not_caught", "runtime_prompt_formal_rewarded", "runtime_prompt_wrong_name",
    "missing_name", "single_line", "quote_first", "three_lines", "two_quotes", "curly", "empty", "one_char_quote", "quote_301",
    "role_marker_upper", "chatml_leak_not_caught", "player_label_and_marker", "japanese_leak_full_score", "degenerate_repetition_hack",
    "echo_user", "very_long_250", "len_200_240", "nested_double", "blank_line_between",
}  # fmt: skip


def golden_cases():
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        system = row["input"]["system"]
        protagonist = "사야" if "사야" in system else "하루"
        polite = "기본 말투: 존댓말" in system
        yield pytest.param(row, context(Register.POLITE if polite else Register.CASUAL, row["input"]["user"], protagonist), id=row["case"])


@pytest.mark.parametrize(("row", "against"), golden_cases())
def test_golden_degenerate_rows_score_below_every_ideal_reply(row, against):
    value = total(score(row["input"]["completion"], against))
    if row["case"] in DEGENERATE:
        assert value < value_of(WORST_IDEAL) - 0.02
    else:
        assert value >= 0.97


def test_terms_and_weights_have_the_same_names():
    assert set(TERMS) == set(RewardWeights.model_fields)


def test_good_reply_with_the_players_words_is_no_echo():
    against = context(user="내일 같이 바다에 갈래?")

    assert score('하루는 눈을 반짝인다.\n"바다? 좋아, 내일 아침에 같이 가자."', against)["echo"] == 1.0


def test_emphasis_is_no_loop_and_every_further_round_costs():
    def repetition(speech: str) -> float:
        return score(f'하루는 창밖을 보다가 천천히 고개를 돌린다.\n"{speech}"', CASUAL)["repetition"]

    assert repetition("고마워. 정말 고마워. 내일 또 봐.") == 1.0
    assert 0.7 <= repetition("보고 싶어. 정말 보고 싶어. 내일은 꼭 와.") < 1.0
    once, twice = (
        repetition("오늘은 더 들려줘. 비가 오네. 오늘은 더 들려줘."),
        repetition("더 들려줘. 비가 오네. 더 들려줘. 자, 더 들려줘."),
    )
    assert twice < once < 0.7


def test_length_falls_smoothly_on_both_sides():
    against = context(band=(40, 60))
    lengths = {size: score("하루는 " + "가" * (size - 9) + '\n"응."', against)["length"] for size in (16, 24, 39, 50, 61, 80, 96)}

    assert lengths[50] == 1.0
    assert lengths[16] < lengths[24] < lengths[39] < 1.0
    assert 1.0 > lengths[61] > lengths[80] > lengths[96]


def test_length_band_comes_from_the_references():
    low, high = length_band(["가" * size for size in range(1, 101)])

    assert (low, high) == (5, 96)
    assert length_band([])[0] < length_band([])[1]


def test_context_reads_columns_and_refuses_a_row_without_speech_level():
    row = {
        "id": "g-1",
        "protagonist": "하루",
        "player": "카즈키",
        "register": "반말",
        "prompt_messages": [{"role": "system", "content": "존댓말은 쓰지 않는다."}, {"role": "user", "content": "안녕?"}],
    }

    assert context_from_row(row, (3, 9)) == RewardContext("하루", "카즈키", Register.CASUAL, "안녕?", 3, 9)
    with pytest.raises(DataError, match="g-1"):
        context_from_row({**row, "register": ""})


def test_only_the_proportions_of_the_weights_count():
    scores = score(*HACKS["one Hanja"])
    table = RewardWeights().model_dump()

    assert total(scores, RewardWeights(**{name: 3 * value for name, value in table.items()})) == pytest.approx(total(scores))


@given(st.text(max_size=300), st.sampled_from(list(Register)))
def test_any_text_scores_between_0_and_1(text, register):
    scores = score(text, context(register))

    assert set(scores) == set(TERMS)
    assert all(0 <= value <= 1 for value in scores.values())
    assert 0 <= total(scores) <= 1


def test_reply_parts_are_named():
    reply = parse_reply('하루는 웃었다.\n"반가워."\n뒤에 남은 말')

    assert (reply.narration, reply.speech, reply.extra) == ("하루는 웃었다.", "반가워.", ("뒤에 남은 말",))
    assert not reply.is_exact
    assert parse_reply('하루는 웃었다.\n"반가워."').is_exact
