"""The reply parser: the predecessor's faults inverted, and the three promises as properties."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rplab.play.events import Delta, Sentence, collect
from rplab.play.parse import ReplyParser, parse_reply
from rplab.play.sentences import SentenceCutter, split_sentences
from rplab.play.settle import coalesce

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = {"protagonist": ["사야", "サヤ"], "player": ["카즈키", "カズキ"]}


def rows(name):
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", rows("rp_parser.jsonl"), ids=lambda row: row["case"])
def test_reply_of_the_golden_set_is_parsed_sensibly(row):
    parsed = parse_reply(row["input"], **NAMES)

    assert list(parsed.narration) == row["expected"]["narration"]
    assert [s.text for s in parsed.dialogue if s.speaker == "character"] == row["expected"]["dialogue"]
    assert [s.text for s in parsed.dialogue if s.speaker == "player"] == row["expected"]["player"]
    assert bool(parsed.cut) == row["expected"]["cut"]


@pytest.mark.parametrize("row", rows("text_split.jsonl"), ids=lambda row: row["case"])
def test_text_of_the_golden_set_is_cut_sensibly(row):
    assert split_sentences(row["input"]) == row["expected"]


MORE = {
    "unclosed": ('사야는 웃었다.\n"왔구나', ["사야는 웃었다."], ["왔구나"]),
    "full width": ("사야는 웃었다.\n＂왔구나.＂", ["사야는 웃었다."], ["왔구나."]),
    "double corner": ("사야는 웃었다.\n『왔구나.』", ["사야는 웃었다."], ["왔구나."]),
    "mixed marks": ('사야는 웃었다.\n“왔구나."', ["사야는 웃었다."], ["왔구나."]),
    "two sentences": ('"왔구나. 추웠지?"', [], ["왔구나.", "추웠지?"]),
    "decimal": ('"3.5도야. 춥지?"', [], ["3.5도야.", "춥지?"]),
    "ellipsis inside": ('"그래도...뭐. 괜찮아……"', [], ["그래도...뭐.", "괜찮아……"]),
    "action in speech": ('"*하품하며* 졸려."', ["하품하며"], ["졸려."]),
    "direction in speech": ('"(웃으며) 졸려."', ["웃으며"], ["졸려."]),
    "open star in speech": ('"별점은 *다섯 개야."', [], ["별점은 다섯 개야."]),
    "times": ('"5 * 3은 15야."', [], ["5 * 3은 15야."]),
    "bold": ('"**정말** 좋아."', [], ["정말 좋아."]),
    "star then bare speech": ("*사야는 손을 흔든다* 안녕", ["사야는 손을 흔든다"], ["안녕"]),
    "fragment beside a quotation": ('창밖으로 쏟아지는 빗소리\n"춥다."', ["창밖으로 쏟아지는 빗소리"], ["춥다."]),
    "fragment alone": ("글쎄, 비밀", [], ["글쎄, 비밀"]),
    "polite end is speech": ("안녕하세요. 저는 서점 주인입니다.", [], ["안녕하세요.", "저는 서점 주인입니다."]),
    "calling a name is speech": ("카즈키, 이리 와 봐.", [], ["카즈키, 이리 와 봐."]),
    "label without quotes": ("사야: 같이 갈래?", [], ["같이 갈래?"]),
    "stray close with tail": ('알았어" 라고 사야는 말했다.', ["라고 사야는 말했다."], ["알았어"]),
    "template token": ('사야는 웃었다.\n"왔구나."<|im_end|>\n"더"', ["사야는 웃었다."], ["왔구나."]),
    "player label": ('"왔구나."\n카즈키: "응."', [], ["왔구나."]),
    "particle after the mark": ('"좋아."라고 사야는 말했다.', ["라고 사야는 말했다."], ["좋아."]),
    "json escapes": ('사야는 웃었다.\\n\\"왔구나.\\"', ["사야는 웃었다."], ["왔구나."]),
    "open thinking": ("<think>끝이 없다", [], []),
    "asides between quotations": ('"안녕!" *손을 흔든다* "또 봐."', ["손을 흔든다"], ["안녕!", "또 봐."]),
    "three lines in one quotation": ('"하나,\n둘,\n셋."', [], ["하나,", "둘,", "셋."]),
    "unclosed, then narration": ('"가자\n사야는 문을 열었다.', ["사야는 문을 열었다."], ["가자"]),
    "speech inside narration": ('사야는 "안녕"이라고 말했다.', ["사야는", "이라고 말했다."], ["안녕"]),
    "title in narration": ("사야는 『어린 왕자』를 읽었다.", ["사야는 『어린 왕자』를 읽었다."], []),
    "title beside speech": (
        '사야는 「눈의 나라」의 표지를 보았다.\n"이거 읽었어?"',
        ["사야는 「눈의 나라」의 표지를 보았다."],
        ["이거 읽었어?"],
    ),
    "title in speech": ('"『어린 왕자』를 읽었어?"', [], ["『어린 왕자』를 읽었어?"]),
    "corner speech and a verb": ("사야는 「안녕」이라고 말했다.", ["사야는", "이라고 말했다."], ["안녕"]),
    "corner speech with a mark": ("사야는 「가자.」를 되뇌었다.", ["사야는", "를 되뇌었다."], ["가자."]),
    "square direction": ("[사야는 웃었다.] 왔구나.", ["사야는 웃었다."], ["왔구나."]),
    "lenticular direction": ("【웃으며】 왔구나.", ["웃으며"], ["왔구나."]),
    "underlined": ('_사야는 웃었다._\n"왔구나."', ["사야는 웃었다."], ["왔구나."]),
    "japanese nested": (
        "サヤは笑った。\n「来たんだ。『うん』って言ったよね」",
        ["サヤは笑った。"],
        ["来たんだ。", "『うん』って言ったよね"],
    ),
    "kind labels": ("지문: 바람이 분다\n대사: 춥다, 그렇지", ["바람이 분다"], ["춥다, 그렇지"]),
    "less than": ('"하트는 <3 이야."', [], ["하트는 <3 이야."]),
}


@pytest.mark.parametrize(("text", "narration", "dialogue"), MORE.values(), ids=MORE.keys())
def test_reply_that_strays_is_still_split_into_narration_and_speech(text, narration, dialogue):
    parsed = parse_reply(text, **NAMES)

    assert list(parsed.narration) == narration
    assert [sentence.text for sentence in parsed.dialogue] == dialogue


def stream(text, cuts):
    parser = ReplyParser(**NAMES)
    events, start = [], 0
    for cut in [*sorted(cut % (len(text) + 1) for cut in cuts), len(text)]:
        events += parser.feed(text[start:cut])
        start = cut
    return coalesce([*events, *parser.finish()])


PIECES = st.sampled_from(
    ["사야는 웃었다", "카즈키가 말했다", "안녕", "3.5", " ", "\n", '"', "“", "”", "「", "」", "'", "*", "**", "(", ")", ".", "...", "…",
     "?!", "~", "사야", ":", "USER", "<think>", "</think>", "<b>", "<", "\\", "\r\n", "다", "좋아", "<|im_end|>", "，", "\x1b[31m", "가자",
     "a", "[", "]", "『", "』", "《", "》", "‘", "’", "_", "을", "를 ", "이", "라고", "サヤは笑った。", "来たね", "。", "\n\n", "~~", "—",
     "카즈키:", "대사:", "``", "„", "&quot;"]
)  # fmt: skip
REPLIES = st.lists(PIECES, max_size=24).map("".join) | st.text(max_size=40)


@given(REPLIES, st.lists(st.integers(0, 200), max_size=12))
@settings(max_examples=400, deadline=None)
@example('사야는 웃었다.\n"걔가 "싫어"라고 하던데."', [3, 14, 15, 16, 17])
def test_any_split_of_the_stream_gives_the_same_events(text, cuts):
    whole = stream(text, [])

    assert stream(text, cuts) == whole
    assert stream(text, list(range(len(text)))) == whole


@given(REPLIES)
@settings(max_examples=300, deadline=None)
def test_every_letter_that_is_shown_is_narration_or_speech(text):
    parsed = collect(stream(text, []))

    classified = "".join([*parsed.narration, *(sentence.text for sentence in parsed.dialogue)])
    assert letters(classified) == letters(parsed.shown)


def letters(text):
    return sorted(character for character in text if character.isalnum())


LETTERS = st.text("가나다라마바사아자차카타파하 ", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(
    st.lists(
        st.tuples(LETTERS, LETTERS, st.sampled_from(['""', "“”", "「」", "『』", "＂＂"]), st.sampled_from([" ", "\n"])),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=200, deadline=None)
def test_narration_is_never_spoken_and_speech_never_lost(turns):
    text = "".join(f"사야는 {narration}다.{gap}{marks[0]}{speech}.{marks[1]}\n" for narration, speech, marks, gap in turns)

    parsed = parse_reply(text, **NAMES)

    assert [" ".join(s.text.split()) for s in parsed.dialogue] == [" ".join(f"{speech}.".split()) for _, speech, _, _ in turns]
    assert [" ".join(n.split()) for n in parsed.narration] == [" ".join(f"사야는 {narration}다.".split()) for narration, _, _, _ in turns]


KOREAN_SPEECH = ["왔구나.", "비가 와서 걱정했어.", "이리 와, 앉아!", "정말이야?", "그래...", "나 좀 피곤해", "3.5도래.", "같이 갈래?"]
JAPANESE_SPEECH = ["来たんだね。", "雨だから心配したよ！", "ここに座って", "本当に？"]
NARRATED = ["사야는 웃었다.", "사야가 창문을 닫는다.", "그녀는 천천히 고개를 들었다.", "サヤは笑った。", "사야는 책을 덮고 일어섰다."]
MARKS = ['""', "“”", "「」", "『』", "＂＂", '“"', '"”', "„”", "«»"]
QUOTATION = st.tuples(st.lists(st.sampled_from(KOREAN_SPEECH + JAPANESE_SPEECH), min_size=1, max_size=3), st.sampled_from(MARKS))
BLOCKS = st.lists(st.tuples(st.sampled_from(NARRATED), QUOTATION, st.sampled_from([" ", "\n", "\n\n"])), min_size=1, max_size=4)


def spoken(text):
    return letters("".join(sentence.text for sentence in parse_reply(text, **NAMES).dialogue))


@given(BLOCKS)
@settings(max_examples=120, deadline=None)
def test_every_kind_of_quotation_mark_divides_narration_from_speech(blocks):
    text = "\n".join(f"{told}{gap}{marks[0]}{' '.join(said)}{marks[1]}" for told, (said, marks), gap in blocks)

    assert spoken(text) == letters("".join("".join(said) for _, (said, _), _ in blocks))
    assert letters("".join(parse_reply(text, **NAMES).narration)) == letters("".join(told for told, _, _ in blocks))


@given(BLOCKS, st.sampled_from(["‘’", "「」", "『』", "“”"]), st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_quotation_inside_of_a_quotation_is_spoken_with_it(blocks, nested, place):
    inner = f"걔가 {nested[0]}싫어{nested[1]}라고 했어."
    lines = []
    for told, (said, marks), gap in blocks:
        outer = marks if nested[0] not in marks and nested[1] not in marks else '""'
        said = [*said[: place % (len(said) + 1)], inner, *said[place % (len(said) + 1) :]]
        lines.append((told, said, f"{told}{gap}{outer[0]}{' '.join(said)}{outer[1]}"))

    text = "\n".join(line for _, _, line in lines)
    assert spoken(text) == letters("".join("".join(said) for _, said, _ in lines))


@given(BLOCKS, st.integers(0, 50), st.booleans())
@settings(max_examples=120, deadline=None)
def test_quotation_mark_that_is_missing_loses_no_speech_and_speaks_no_narration(blocks, victim, is_closing):
    """One mark of one quotation is left out; narration and speech stand on lines of their own, as the models are taught."""
    victim %= len(blocks)
    lines = []
    for number, (told, (said, marks), _) in enumerate(blocks):
        opener, closer = marks
        if number == victim:
            opener, closer = (opener, "") if is_closing else ("", closer)
        lines += [told, f"{opener}{' '.join(said)}{closer}"]

    assert spoken("\n".join(lines)) == letters("".join("".join(said) for _, (said, _), _ in blocks))


@given(
    st.lists(
        st.tuples(st.sampled_from(NARRATED), st.sampled_from(["왔구나.", "이리 와, 앉아!", "정말이야?", "같이 갈래?", "나 좀 피곤해."])),
        min_size=1,
        max_size=4,
    )
)
def test_without_any_quotation_mark_the_words_tell(lines):
    text = "\n".join(f"{told}\n{said}" for told, said in lines)

    parsed = parse_reply(text, **NAMES)

    assert [sentence.text for sentence in parsed.dialogue] == [said for _, said in lines]
    assert list(parsed.narration) == [told for told, _ in lines]


def test_answer_to_something_that_the_player_did_is_the_characters():
    assert parse_reply('카즈키가 문을 두드렸다.\n"들어와."', **NAMES).dialogue[0].speaker == "character"
    assert parse_reply('카즈키가 웃으며 물었다.\n"잘 있었어?"', **NAMES).dialogue[0].speaker == "player"


def test_sentence_inside_an_open_quotation_comes_before_the_quotation_ends():
    parser = ReplyParser(**NAMES)

    events = parser.feed('사야는 웃었다.\n"왔구나. 추')

    assert [event.text for event in events if isinstance(event, Sentence)] == ["왔구나."]


def test_text_is_shown_within_one_character():
    parser = ReplyParser(**NAMES)
    text = '바람이 분다.\n"오늘은 춥네. 안 그래?"'
    behind = []
    for end, character in enumerate(text):
        shown = "".join(event.text for event in parser.feed(character) if isinstance(event, Delta))
        behind.append(shown)
        assert len("".join(behind).replace("\n", "")) >= len(text[: end + 1].replace("\n", "").rstrip()) - 1


@given(st.text('가나 .?!…,3a\n"', max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_sentences_do_not_depend_on_pieces(text, cuts):
    cutter, start, found = SentenceCutter(), 0, []
    for cut in [*sorted(cut % (len(text) + 1) for cut in cuts), len(text)]:
        found += cutter.feed(text[start:cut])
        start = cut

    assert [*found, *cutter.flush()] == split_sentences(text)
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_long_sentence_without_marks_is_cut():
    assert all(len(sentence) <= 120 for sentence in split_sentences("가나다 " * 100))


def test_first_clause_may_come_early():
    cutter = SentenceCutter(first_clause_chars=6)

    assert cutter.feed("오늘은 말이야, 그냥, 집에") == ["오늘은 말이야,"]
