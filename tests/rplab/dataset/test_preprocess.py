"""`rplab data preprocess`: golden cases, what the quirk rows should do, real trimming, fixed point."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.dataset.preprocess import Dropped, preprocess_file, preprocess_messages
from rplab.dataset.token_count import TokenCounter
from rplab.errors import DataError
from rplab.text.meta_lines import MetaKind, find_meta, is_policy

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "golden" / "preprocess_cases.jsonl").read_text("utf-8").splitlines()]
BOOK = CASES[0]["input"]["messages"][0]["content"]


def count(messages):
    return sum(1 + len(message["content"].split()) for message in messages)


def run(messages, limit=400, meta=None):
    result = preprocess_messages(messages, meta, count, limit)
    return result if isinstance(result, Dropped) else result.messages


def turn(role, content):
    return {"role": role, "content": content}


def reply_of(content, book=BOOK, meta=None):
    return run([turn("system", book), turn("user", '"안녕."'), turn("assistant", content)], meta=meta)[-1]["content"]


@pytest.mark.parametrize("case", [case for case in CASES if case["seed_quirk"] is None], ids=lambda case: case["id"])
def test_golden_rows_come_out_the_same(case):
    result = run(case["input"]["messages"], case["flags"]["max_length"])
    assert (None if isinstance(result, Dropped) else {"messages": result}) == case["output"]


QUIRKS = {
    "prep/p11_self_instruction_false_hit": '사야는 고개를 든다.\n"이제 축제를 시작하자."',
    "prep/p13_protagonist_word_to_pronoun": '그녀는 고개를 든다.\n"어서 와."',
    "prep/p14_protagonist_word_no_gender": '주인공은 고개를 든다.\n"어서 와."',
    "prep/p16_player_word_with_josa_kept": '사야는 하야토를 본다.\n"어서 와."',
    "prep/p17_line_without_terminal_dropped": '사야는 고개를 든다.\n"어서 와."',
    "prep/p19_user_plain_text_kills_row": "안녕.",
    "prep/p21_consecutive_user_last_kept": '"하나."\n"둘."',
    "prep/p24_no_system_row_dropped": Dropped.NO_SYSTEM,
    "prep/p26_too_long_even_one_pair": Dropped.TOO_LONG,
    "prep/p30_null_content_drops_row": Dropped.NO_CONTENT,
}


@pytest.mark.parametrize("case", [case for case in CASES if case["seed_quirk"]], ids=lambda case: case["id"])
def test_quirk_rows_do_what_is_suggested(case):
    wanted = QUIRKS[case["id"]]
    result = run(case["input"]["messages"], case["flags"]["max_length"])
    if isinstance(wanted, Dropped):
        assert result is wanted
    else:
        assert wanted in [message["content"] for message in result]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("---", MetaKind.RULE),
        ("/미소/", MetaKind.TAG),
        ("사야는 /웃음/ 손을 든다.", MetaKind.TAG),
        ("**장면 1**", MetaKind.BOLD),
        ("[장면 전환]", MetaKind.DIRECTION),
        ("(잠시 뒤)", MetaKind.DIRECTION),
        ("배경: 서점", MetaKind.DIRECTION),
        ("장면 전환.", MetaKind.DIRECTION),
        ("현재 상태: BOND", MetaKind.STATE),
        ("action_state = EVENT", MetaKind.STATE),
        ("BOND -> CRISIS", MetaKind.STATE),
        ("② 돌아간다.", MetaKind.CHOICE),
        ("3) 말을 건다.", MetaKind.CHOICE),
        ("B. 기다린다.", MetaKind.CHOICE),
        ("다음은 수정한 답변입니다.", MetaKind.SELF_INSTRUCTION),
        ("이제 답변을 작성하겠습니다.", MetaKind.SELF_INSTRUCTION),
        ("규칙을 준수하겠습니다.", MetaKind.SELF_INSTRUCTION),
        ("Here is the response.", MetaKind.SELF_INSTRUCTION),
        ('"1/2/3 골라."', None),
        ("사야는 1/2/3 중에 2를 고른다.", None),
        ("사야는 2026/11/23 이라고 쓴다.", None),
        ("남/녀/노소 누구나 모인다.", None),
        ("사야는 3.5미터 앞에 선다.", None),
        ("3.5미터 앞에 사야가 선다.", None),
        ("사야는 결과를 기다린다.", None),
        ("이제 축제를 시작한다.", None),
        ("사야는 그래프와 평가를 훑어본다.", None),
        ("장면마다 빛이 다르다.", None),
        ('"아래는 위험해요. 대화는 나중에 합니다."', None),
    ],
)
def test_find_meta_takes_whole_meta_lines_only(line, kind):
    assert find_meta(line) is kind


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("주인공의 손이 떨린다.", "그녀의 손이 떨린다."),
        ("사야가 플레이어와 걷는다.", "사야가 하야토와 걷는다."),
        ("사야는 플레이어에게로 간다", "사야는 플레이어에게로 간다."),
        ("사야(주인공)는 CD플레이어를 켠다.", "사야는 CD플레이어를 켠다."),
        ("주인공들이 모인다.", "주인공들이 모인다."),
        ('"어서 와', '"어서 와."'),
        ("사야는 문을 연다,", "사야는 문을 연다."),
    ],
)
def test_names_take_the_particle_that_fits(before, after):
    assert reply_of(before) == after


@pytest.mark.parametrize(
    "line", ["당신은 사야다. 하야토는 플레이어이다.", "플레이어: 하야토 (26세, 남성)", "플레이어는 하야토다.", "주인공은 「사야」입니다."]
)
def test_lines_that_say_who_is_who_stay(line):
    book = f"{line}\n3. 주인공\n이름: 사야 (24세, 여성)\n4. 플레이어\n이름: 하야토"
    rows = run([turn("system", book), turn("user", '"응?"'), turn("assistant", '"응."')])
    assert rows[0]["content"].startswith(line)
    assert "3. 사야" in rows[0]["content"]


def test_unknown_gender_takes_the_name_from_metadata():
    meta = {"protagonist": {"name": "하늘"}, "player": "소마"}
    assert reply_of("주인공는 플레이어을 본다.", book="설정만 있다.", meta=meta) == "하늘은 소마를 본다."


def test_player_lines_that_are_not_finished_leave_only_beside_finished_ones():
    first = run([turn("system", BOOK), turn("user", '문을 연다\n"안녕."'), turn("assistant", '"응."')])
    second = run([turn("system", BOOK), turn("user", "문을 연다\n안녕"), turn("assistant", '"응."')])
    assert first[1]["content"] == '"안녕."'
    assert second[1]["content"] == "문을 연다.\n안녕."


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("[고정 정책]\n사야로만 말한다.", True),
        ("응답 규칙: 짧게.", True),
        ("서술 한 줄과 큰따옴표 대사 한 줄로 쓴다.", True),
        ("계절은 겨울이다.", False),
        ("이 마을의 숲은 출입이 금지되어 있다. 밤에는 반드시 등불을 든다.", False),
        ("규칙적인 파도 소리가 들린다.", False),
    ],
)
def test_rules_of_output_are_told_from_settings(text, rules):
    assert is_policy(text) is rules


def test_later_output_rules_leave_and_settings_stay():
    rules = "출력 형식: 두 줄로 쓴다. 서술은 다체, 대사는 큰따옴표. 메타 발언 금지."
    rows = [turn("system", BOOK), turn("system", rules), turn("system", "비가 온다."), turn("user", '"응?"'), turn("assistant", '"응."')]
    assert [message["content"] for message in run(rows)[1:]] == ["비가 온다.", '"응?"', '"응."']


def test_command_trims_with_a_real_tokenizer_and_counts(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (tmp_path / "tok").mkdir()
    tokenizer.save(str(tmp_path / "tok" / "tokenizer.json"))
    (tmp_path / "tok" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}")
    case = next(case for case in CASES if case["id"] == "prep/p25_trim_oldest_pair")
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(case["input"]) + "\n" + json.dumps({"messages": [turn("user", "x")]}) + "\n")
    counts = preprocess_file(source, tmp_path / "out.jsonl", max_tokens=93, count_tokens=TokenCounter(tmp_path / "tok").count_chat)
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8")) == case["output"]
    assert (counts.rows, counts.kept, dict(counts.dropped)) == (2, 1, {"no_system_turn": 1})
    assert counts.notes["pairs_trimmed"] == 2


def test_broken_rows_name_their_line(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"messages": []}\n{"text": 1}\n')
    with pytest.raises(DataError, match=r"in\.jsonl:2: 'messages'"):
        preprocess_file(source, tmp_path / "out.jsonl", max_tokens=9, count_tokens=count)
    assert not (tmp_path / "out.jsonl").exists()


PIECES = st.sampled_from(
    [
        *("주인공", "플레이어", "사야", "하야토", "은", "는", "을", "(주인공)", "(", ")", "[", "]", '"', '"', ".", "!", "…", ","),
        *(":", "-", "---", "*", "/", "/웃음/", "1.", "A)", "상태:", "BOND", "아래는", "결과입니다.", "웃는다", "어서", "와"),
        " ",
        "\n",
        "\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), TEXTS), max_size=6), st.sampled_from([BOOK, "설정만 있다."]))
def test_preprocessing_again_changes_nothing(talk, book):
    once = run([turn("system", book), *(turn(*item) for item in talk)], 120)
    if not isinstance(once, Dropped):
        assert run(once, 120) == once
        assert count(once) <= 120
        assert [message["role"] for message in once[1:]] == ["user", "assistant"] * ((len(once) - 1) // 2)
