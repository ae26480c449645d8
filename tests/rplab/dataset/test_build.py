"""The data-set stage: no leak between train and eval, everything counted, same bytes for same input."""

import hashlib
import itertools
import json
import shutil
import threading

import pytest

from rplab.dataset.build import build_dataset
from rplab.dataset.card import describe, render_card
from rplab.dataset.config import DatasetConfig, NormaliseConfig
from rplab.dataset.html import render_report
from rplab.dataset.normalise import normalise_rows
from rplab.dataset.slop import measure_slop
from rplab.dataset.translation_set import INSTRUCTION
from rplab.dataset.views import VIEWS
from rplab.errors import DataError, StageInterrupted
from rplab.jsonl import write_rows
from rplab.stage import StageContext
from rplab.text.morphemes import content_words, find_cliches

PLACES = ["서점", "항구", "옥상", "온실", "역", "다리", "골목", "성문", "등대", "시장"]
THINGS = ["책", "우산", "편지", "등불", "시계", "열쇠", "사진", "지도"]
JA = dict(zip(THINGS, ["本", "傘", "手紙", "灯り", "時計", "鍵", "写真", "地図"], strict=True))


def single(place, thing, number=0):
    speech = f"이 {thing}, {place}에서 찾았어."
    return {
        "system": f"「사야」\n당신은 사야다. 카즈키는 플레이어이다.\n{place}에서 생긴 일 {number}",
        "user": f'"{place}에 {thing} 있어?"',
        "assistant_raw": f'사야는 {thing} 쪽을 본다.\n"{speech}"',
        "scene": {
            "speaker": "사야",
            "narration": {"ko": f"사야는 {thing} 쪽을 본다.", "jp": f"サヤは{JA[thing]}の方を見る。"},
            "dialogue": {"ko": speech, "jp": f"この{JA[thing]}、{PLACES.index(place)}番で見つけたよ。"},
        },
        "meta": {
            "id": f"s-{place}-{thing}-{number}",
            "protagonist": "사야",
            "player": "카즈키",
            "register": "반말",
            "genre": "연애물",
            "pack": "v7",
            "backend": "test",
        },
    }


def dialogue(place, number, thing="책"):
    turns = [f"{place} {thing} {number}번, {turn}번째 말이야." for turn in range(3)]
    messages = [{"role": "system", "content": f"{place} 이야기 {number}"}]
    for turn, text in enumerate(turns):
        messages += [
            {"role": "user", "content": f'"{number}-{turn} {place} 어때?"'},
            {"role": "assistant", "content": f'사야는 웃는다.\n"{text}"'},
        ]
    return {
        "id": f"d-{place}-{number}",
        "scenario_id": f"scenario-{place}-{number}",
        "messages": messages,
        "turns": [
            {
                "state": "FLIRT",
                "action": "EVENT",
                "intent": "rise",
                "japanese": f"{number}番、{turn}回目の話だよ。",
                "player_japanese": None,
            }
            for turn in range(3)
        ],
        "meta": {"protagonist": "사야", "player": "카즈키", "register": "반말", "genre": "비극", "pack": "v7", "backend": "test"},
    }


@pytest.fixture
def inputs(tmp_path):
    """Directories of the stages before: 80 single-turn rows (one copied, one without speech), 20 dialogues."""
    rows = [single(place, thing) for place, thing in itertools.product(PLACES, THINGS)]
    rows.append(rows[0])
    rows.append({**single("서점", "책", 9), "assistant_raw": "사야는 웃는다."})
    return make_inputs(tmp_path, rows, [dialogue(place, number) for place in PLACES for number in range(2)])


def make_inputs(tmp_path, rows, dialogues):
    for name in ("rows", "singleturn", "dialogues"):
        (tmp_path / name).mkdir(exist_ok=True)
    write_rows(tmp_path / "rows" / "rows.jsonl", rows)
    write_rows(tmp_path / "rows" / "rejects.jsonl", [{"key": "k", "reason": "two_quotes", "text": "x"}])
    normalise_rows(NormaliseConfig(), {"rows": tmp_path / "rows"}, context(tmp_path / "singleturn"))
    write_rows(tmp_path / "dialogues" / "dialogues.jsonl", dialogues)
    write_rows(tmp_path / "dialogues" / "partial.jsonl", [{**dialogue("역", 9), "meta": {"finish": "assistant_too_long"}}])
    return {name: tmp_path / name for name in ("rows", "singleturn", "dialogues")}


def context(out, stop=None):
    out.mkdir(parents=True, exist_ok=True)
    return StageContext(out=out, resume=out, stop=stop or threading.Event())


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def view(out, name, side):
    return read(out / "views" / name / f"{side}.jsonl")


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_views_hold_what_trainers_read(inputs, tmp_path):
    out = tmp_path / "out"
    stats = build_dataset(DatasetConfig(eval_ratio=0.1), inputs, context(out))

    assert stats["kinds"] == {"single": 80, "multi": 20}
    assert stats["yield"]["dropped"]["single"] == {"duplicate": 1, "reply_without_speech": 1}
    assert stats["yield"]["dropped"]["single, attempts"] == {"two_quotes": 1}
    assert stats["yield"]["dropped"]["multi, partial"] == {"assistant_too_long": 1}
    assert len(view(out, "sft1", "train")) + len(view(out, "sft1", "eval")) == 80
    assert set(view(out, "sft1", "train")[0]) == {"messages"}
    grpo = view(out, "grpo", "train") + view(out, "grpo", "eval")
    assert len(grpo) == 80 + 60
    assert {"id", "prompt", "prompt_messages", "reference", "protagonist", "player", "register", "meta"} == set(grpo[0])
    assert all(row["prompt_messages"][0]["role"] == "system" and row["prompt_messages"][-1]["role"] == "user" for row in grpo)
    multi = [row for row in view(out, "sft2", "train") if len(row["messages"]) > 3]
    assert multi
    assert 0 < len(view(out, "sft2", "train")) - len(multi) < 30
    assert view(out, "translation", "train")[0]["instruction"] == INSTRUCTION


def test_nothing_stands_on_both_sides(inputs, tmp_path):
    out = tmp_path / "out"
    stats = build_dataset(DatasetConfig(eval_ratio=0.2), inputs, context(out))

    def systems(name, key):
        return [{row[key][0]["content"] for row in view(out, name, side)} for side in ("train", "eval")]

    assert not set.intersection(*systems("sft1", "messages"))
    assert not set.intersection(*systems("sft2", "messages"))
    assert not set.intersection(*systems("grpo", "prompt_messages"))
    scenarios = [
        {row["prompt_messages"][0]["content"] for row in view(out, "grpo", "eval")}
        & {row["messages"][0]["content"] for row in view(out, name, "train")}
        for name in ("sft1", "sft2")
    ]
    assert scenarios == [set(), set()]
    lines = [{row["input"] for row in view(out, "translation", side)} for side in ("train", "eval")]
    assert lines[0]
    assert lines[1]
    assert not lines[0] & lines[1]
    assert all(number == 0 for number in stats["leakage"].values())


def test_a_line_said_everywhere_is_trained_on_or_held_out_but_never_both(tmp_path):
    rows = [single(place, thing) for place, thing in itertools.product(PLACES, THINGS)]
    for row in rows:
        row["scene"]["dialogue"] = {"ko": "응, 그래.", "jp": "うん、そうだね。"}
    for number, row in enumerate(rows[:60]):
        row["scene"]["dialogue"] = {"ko": f"{THINGS[number % 8]} 좋다 {number % 20}.", "jp": f"{number % 20}、いいね。"}
    inputs = make_inputs(tmp_path, rows, [])
    for least in (0, 24):
        out = tmp_path / f"out{least}"
        stats = build_dataset(DatasetConfig(eval_ratio=0.2, min_translation_eval=least), inputs, context(out))
        train, held_out = ({row["input"] for row in view(out, "translation", side)} for side in ("train", "eval"))
        assert not train & held_out
        dropped = stats["yield"]["dropped"]["translation"]
        assert ("line_also_in_training" in dropped) or ("line_held_out" in dropped)
    assert len(held_out) >= 4


def test_same_input_same_bytes_whatever_the_row_order(inputs, tmp_path):
    build_dataset(DatasetConfig(), inputs, context(tmp_path / "a"))
    build_dataset(DatasetConfig(), inputs, context(tmp_path / "b"))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")

    path = inputs["singleturn"] / "messages.jsonl"
    write_rows(path, list(reversed(read(path))))
    build_dataset(DatasetConfig(), inputs, context(tmp_path / "c"))
    for name in ("sft1", "grpo", "translation"):
        for side in ("train", "eval"):
            assert view(tmp_path / "a", name, side) == view(tmp_path / "c", name, side)


def test_rows_without_names_stay_out_of_grpo_and_are_counted(tmp_path):
    rows = [single(place, "책") for place in PLACES]
    for row in rows[:3]:
        del row["meta"]["register"]
    stats = build_dataset(DatasetConfig(), make_inputs(tmp_path, rows, []), context(tmp_path / "out"))
    assert stats["yield"]["dropped"]["grpo"] == {"protagonist_player_or_register_unknown": 3}
    assert sum(stats["views"]["grpo"].values()) == 7


def test_near_copies_are_counted_and_kept(tmp_path):
    rows = [single(place, "책") for place in PLACES]
    copy = {
        **rows[0],
        "system": "「사야」\n다른 곳",
        "user": rows[0]["user"].replace("?", "…?"),
        "meta": {**rows[0]["meta"], "id": "other"},
    }
    out = tmp_path / "out"
    stats = build_dataset(DatasetConfig(eval_ratio=0.4), make_inputs(tmp_path, [*rows, copy], []), context(out))
    assert stats["near_duplicates"] == 1
    assert stats["rows"] == 11
    sides = [
        side
        for side in ("train", "eval")
        for row in view(out, "sft1", side)
        if "서점" in row["messages"][1]["content"] and "책" in row["messages"][1]["content"]
    ]
    assert len(set(sides)) == 1, "copies that differ in punctuation stay on one side"


def test_near_copies_are_dropped_when_asked(tmp_path):
    rows = [single(place, "책") for place in PLACES]
    copy = {
        **rows[0],
        "system": "「사야」\n다른 곳",
        "user": rows[0]["user"].replace("?", "…?"),
        "meta": {**rows[0]["meta"], "id": "other"},
    }
    stats = build_dataset(DatasetConfig(near_duplicates="drop"), make_inputs(tmp_path, [*rows, copy], []), context(tmp_path / "out"))
    assert (stats["rows"], stats["near_duplicates"]) == (10, 0)
    assert stats["yield"]["dropped"]["single"] == {"near_duplicate": 1}


def test_refused_replies_become_preference_pairs_of_the_same_prompt(tmp_path):
    talk = {**dialogue("역", 1), "scenario_id": "scenario-1"}
    rows = [{**single(place, "책"), "meta": {**single(place, "책")["meta"], "index": at}} for at, place in enumerate(PLACES)]
    inputs = make_inputs(tmp_path, rows, [talk])
    refused = [
        ("scenario-1/t1/protagonist/a0", "asst_too_long", "사야는 웃는다."),
        ("scenario-1/t1/protagonist/a1", "asst_too_long", "사야는 웃는다."),
        ("scenario-1/t1/player/a0", "user_x", "하야토는 웃는다."),
        ("scenario-1/t2/protagonist/a0", "age_cue", ""),
        ("scenario-9/t0/protagonist/a0", "asst_x", "사야는 웃는다."),
        ("scenario-1/t0/signals/a0", "signals_unreadable", "{}"),
    ]
    write_rows(inputs["dialogues"] / "rejects.jsonl", [{"key": key, "reason": why, "text": text} for key, why, text in refused])
    answers = [{**rows[0], "assistant_raw": "나쁜 답"}, {**rows[1], "user": "다른 말", "assistant_raw": "나쁜 답"}, "broken"]
    write_rows(
        inputs["rows"] / "rejects.jsonl",
        [{"key": f"singleturn/{at}/a0", "reason": "r", "text": json.dumps(answer)} for at, answer in enumerate(answers)],
    )
    out = tmp_path / "out"
    stats = build_dataset(DatasetConfig(eval_ratio=0), inputs, context(out))
    pairs = view(out, "preference", "train")
    assert len(pairs) == 2
    turn = next(row for row in pairs if len(row["prompt"]) > 2)
    assert turn["prompt"] == talk["messages"][:4]
    assert turn["chosen"] == [talk["messages"][4]]
    assert turn["rejected"] == [{"role": "assistant", "content": "사야는 웃는다."}]
    assert stats["yield"]["dropped"]["preference"] == {
        "duplicate": 1,
        "no_accepted_row_of_this_item": 1,
        "no_text_kept": 2,
        "not_a_reply": 2,
        "other_prompt": 1,
    }
    assert json.loads((out / "drops.json").read_text("utf-8"))["multi, attempts"]["asst_too_long"] == ["사야는 웃는다."] * 2


def test_report_escapes_what_texts_hold(tmp_path):
    evil = "<script>alert(1)</script>"
    inputs = make_inputs(tmp_path, [{**single("역", "책"), "meta": {**single("역", "책")["meta"], "genre": evil}}], [])
    write_rows(inputs["rows"] / "rejects.jsonl", [{"key": "k", "reason": evil, "text": evil}])
    build_dataset(DatasetConfig(), inputs, context(tmp_path / "out"))
    assert "<script" not in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_parquet_has_the_fixed_schema(inputs, tmp_path):
    import pyarrow.parquet as pq

    from rplab.dataset.canonical_rows import SCHEMA

    out = tmp_path / "out"
    build_dataset(DatasetConfig(), inputs, context(out))
    table = pq.read_table(out / "rows.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert len(rows) == 100
    assert {row["speech_level"] for row in rows} == {"casual"}
    assert json.loads(rows[-1]["meta"])["scenario_id"].startswith("scenario-")


def test_card_is_made_from_the_files(inputs, tmp_path):
    out = tmp_path / "out"
    build_dataset(DatasetConfig(), inputs, context(out))
    card = (out / "report.md").read_text(encoding="utf-8")
    assert card == render_card(describe(out))
    assert card.startswith("---\nlanguage: [ko, ja]\n")
    for expected in (
        "config_name: grpo",
        "path: views/sft1/train.jsonl",
        "| translation | 0 |",
        "reply_without_speech | 1 |",
        "연애물",
        "two_quotes",
    ):
        assert expected in card
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page == render_report(describe(out))
    for anchor in ("yield", "drops", "content", "paths", "diversity", "slop", "duplicates", "views", "examples"):
        assert f'<h2 id="{anchor}">' in page
    assert "FLIRT" in page
    assert "<blockquote>x</blockquote>" in page
    assert "<script" not in page
    assert "http" not in page
    assert "<h1>Role-play data set</h1>" in page
    with pytest.raises(DataError, match="no views"):
        describe(tmp_path)


def test_bad_inputs_name_file_and_line(inputs, tmp_path):
    path = inputs["dialogues"] / "dialogues.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"dialogues\.jsonl:21: not valid JSON"):
        build_dataset(DatasetConfig(), inputs, context(tmp_path / "out"))
    empty = make_inputs(tmp_path, [], [])
    with pytest.raises(DataError, match="nothing to build a data set from"):
        build_dataset(DatasetConfig(), empty, context(tmp_path / "out2"))


def test_stops_when_asked(inputs, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StageInterrupted):
        build_dataset(DatasetConfig(), inputs, context(tmp_path / "out", stop))


def test_the_report_shows_cost_coverage_and_what_a_judge_left_out(inputs, tmp_path):
    used = {"model": "openai/<m>", "answers": 80, "prompt_tokens": 120_000, "completion_tokens": 9_000, "usd": 1.25}
    for stage, usage in (("rows", {"singleturn": used}), ("dialogues", {"scenarios": {**used, "usd": None}, "dialogues": used})):
        (inputs[stage] / "usage.json").write_text(json.dumps(usage), encoding="utf-8")
    coverage = {"reachable": {"state": ["FLIRT", "BOND"], "action": ["EVENT"]}}
    (inputs["dialogues"] / "coverage.json").write_text(json.dumps(coverage), encoding="utf-8")
    judged = tmp_path / "judged"
    shutil.copytree(inputs["dialogues"], judged)
    rows = (judged / "dialogues.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (judged / "dialogues.jsonl").write_text("".join(rows[:-1]), encoding="utf-8")
    write_rows(judged / "judged_out.jsonl", [{"reason": "judge_score", "row": json.loads(rows[-1])}])

    stats = build_dataset(DatasetConfig(), {**inputs, "judged": judged}, context(tmp_path / "out"))

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert stats["kinds"]["multi"] == len(rows) - 1
    assert stats["yield"]["dropped"]["multi, judge"] == {"judge_score": 1}
    for text in ("1 of 2", "price not known", "$1.25", "openai/&lt;m&gt;", "judge_score"):
        assert text in page, text
    assert "BOND" in page  # reachable, never visited: shown with 0
    assert "| singleturn | openai/<m> | 80 | 120000 | 9000 | $1.25 |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_worn_out_phrases_are_found_in_every_inflection():
    texts = ["사야는 숨을 조용히 골랐다.", "그녀가 고개를 끄덕였습니다.", "미소를 짓고 있었어요.", "시선을 피하며 웃는다.", "비가 온다."]

    found = [find_cliches(content_words(text)) for text in texts]

    assert found == [{"숨 고르다"}, {"고개 끄덕이다"}, {"미소 짓다"}, {"시선 피하다"}, set()]
    slop = measure_slop([*texts, *(f"{number}번째로 창밖을 오래 바라보았다." for number in range(9))], ["사야"])
    assert slop["cliches"][0][0] == "창밖 바라보다"
    assert slop["cliche_share"] == round(13 / 14, 4)
    assert measure_slop([], [])["cliche_share"] == 0


@pytest.mark.slow
def test_datasets_reads_every_view(inputs, tmp_path):
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    refused = [{"key": f"scenario-{place}-0/t1/protagonist/a0", "reason": "r", "text": "사야는 웃는다."} for place in PLACES]
    write_rows(inputs["dialogues"] / "rejects.jsonl", refused)
    build_dataset(DatasetConfig(), inputs, context(out))
    for name in VIEWS:
        files = {side: str(out / "views" / name / f"{side}.jsonl") for side in ("train", "eval") if view(out, name, side)}
        loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
        assert loaded["train"].to_list() == view(out, name, "train")
    for name in VIEWS:
        files = {side: str(out / "views" / name / f"{side}.parquet") for side in ("train", "eval") if view(out, name, side)}
        loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
        assert loaded["train"].to_list() == view(out, name, "train")
    rows = datasets.load_dataset("parquet", data_files=str(out / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    assert rows["train"].num_rows == 100
    (out / "report.md").rename(out / "README.md")
    assert datasets.load_dataset(str(out), "grpo", split="validation", cache_dir=str(tmp_path / "cache")).num_rows > 0
