"""`rplab data ...`: exit codes, messages, atomic output, counts."""

import argparse
import json
import subprocess
import sys

import pytest

from rplab.cli import data_convert
from rplab.dataset.counts import RowCounts
from rplab.dataset.unite import unite_files
from rplab.errors import ConfigError, DataError, ModelError

ROW = {"system": "설정", "user": '"안녕?"', "assistant_raw": '사야는 웃는다.\n"응."', "scene": {"speaker": "사야"}}
CHAT = {"messages": [{"role": "user", "content": '"안녕하세요?"'}, {"role": "assistant", "content": '사야는 웃는다.\n"네, 반가워요."'}]}


def run(*arguments):
    parser = argparse.ArgumentParser()
    data_convert.register(parser.add_subparsers(required=True))
    parsed = parser.parse_args([str(item) for item in arguments])
    return parsed.handler(parsed)


def write(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_convert_then_normalise_then_sets(tmp_path, capsys):
    rows = write(
        tmp_path / "rows.jsonl",
        ROW,
        {**ROW, "user": '"{{user}}은 어디야?"', "meta": {"player": "소마", "protagonist": "사야", "register": "반말"}},
    )
    assert run("convert", rows, tmp_path / "m.jsonl") == 0
    assert run("normalise", tmp_path / "m.jsonl", tmp_path / "n.jsonl", "--json") == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (counts["rows"], counts["kept"], counts["changed"], counts["dropped"]) == (2, 2, 1, {})
    assert read(tmp_path / "n.jsonl")[1]["messages"][1]["content"] == '"소마는 어디야?"'
    assert (
        run(
            "grpo-set",
            "--inputs",
            tmp_path / "n.jsonl",
            "--out_train",
            tmp_path / "t.jsonl",
            "--out-eval",
            tmp_path / "e.jsonl",
            "--min_reference_chars",
            2,
        )
        == 0
    )
    grpo = read(tmp_path / "t.jsonl") + read(tmp_path / "e.jsonl")
    assert [row.get("player") for row in grpo].count("소마") == 1


def test_normalise_in_place(tmp_path):
    path = write(tmp_path / "m.jsonl", {"messages": [{"role": "assistant", "content": "*응*"}]})
    assert run("normalise", path, path) == 0
    assert read(path)[0]["messages"][0]["content"] == '"응"'


def test_dropped_rows_are_named(tmp_path, capsys):
    path = write(tmp_path / "m.jsonl", CHAT, {"messages": []}, {"messages": [{"role": "assistant", "content": "***"}]})
    assert run("normalise", path, tmp_path / "n.jsonl") == 0
    assert f"no_messages ({path}:2)" in capsys.readouterr().err
    run("normalise", path, tmp_path / "n.jsonl", "--json")
    counts = json.loads(capsys.readouterr().out)
    assert counts["dropped"] == {"empty_reply": 1, "no_messages": 1}
    assert [(item["line"], item["reason"]) for item in counts["dropped_rows"]] == [(2, "no_messages"), (3, "empty_reply")]


@pytest.mark.parametrize(
    ("command", "bad", "message"),
    [
        ("normalise", "{broken", "not valid JSON"),
        ("normalise", '{"messages": "x"}', "'messages' must be a list"),
        ("normalise", '{"x": 1}', "'messages' is missing"),
        ("normalise", '{"messages": [{"role": 3, "content": "x"}]}', "has a role that is int"),
        ("normalise", '{"messages": [{"content": "x"}]}', "has no role"),
        ("normalise", '{"messages": [{"role": "user", "content": {"a": 1}}]}', "must be text, not an object"),
        ("normalise", '{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        ("normalise", '{"messages": [], "meta": NaN}', "not valid JSON"),
        ("convert", "{broken", "not valid JSON"),
        ("convert", '{"system": "s", "user": "u"}', "'assistant_raw' is missing"),
        ("convert", '{"system": "s", "user": 3, "assistant_raw": "a"}', "'user' must be text"),
        ("translation-set", '{"scene": {"dialogue": {"ko": 3, "jp": "x"}}}', "'ko' must be text"),
        ("translation-set", '{"scene": []}', "'scene' must be an object"),
    ],
)
def test_bad_line_is_named_and_the_old_file_stays(command, bad, message, tmp_path):
    good = ROW if command != "normalise" else CHAT
    path, target = write(tmp_path / "in.jsonl", good, bad), write(tmp_path / "out.jsonl", "old")
    with pytest.raises(DataError, match=rf"in\.jsonl:2: .*{message}") as caught:
        run(command, path, target)
    assert caught.value.exit_code == 2
    assert target.read_text() == "old\n"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_sets_count_broken_lines_but_refuse_a_file_of_them(tmp_path, capsys):
    pair = {"scene": {"dialogue": {"ko": "응.", "jp": "うん。"}}}
    path = write(tmp_path / "in.jsonl", "{broken", pair)
    assert run("translation-set", path, tmp_path / "out.jsonl", "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["dropped"] == {"broken_line": 1}
    assert "in.jsonl:1" in counts["dropped_rows"][0]["what"]
    for arguments in (("--strict",), ()):
        bad = write(tmp_path / "bad.jsonl", "{broken", *([pair] if arguments else []))
        with pytest.raises(DataError, match=r"bad\.jsonl:1: not valid JSON"):
            run("translation-set", bad, tmp_path / "out2.jsonl", *arguments)
    assert not (tmp_path / "out2.jsonl").exists()


@pytest.mark.parametrize(
    ("korean", "japanese", "reason"),
    [
        ("응.", "응.", "hangul_in_japanese"),
        ("응.", "うん、안녕。", "hangul_in_japanese"),
        ("うん。", "うん。", "korean_side_without_hangul"),
        ("응.", "Yes.", "japanese_side_without_kana_or_kanji"),
        (" ", "うん。", "empty_korean"),
    ],
)
def test_translation_checks_scripts(korean, japanese, reason, tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", {"scene": {"dialogue": {"ko": korean, "jp": japanese}}})
    run("translation-set", path, tmp_path / "out.jsonl", "--json")
    assert json.loads(capsys.readouterr().out)["dropped"] == {reason: 1}


def test_translation_takes_dialogues_and_narration(tmp_path):
    dialogue = {
        "messages": [
            {"role": "system", "content": "책"},
            {"role": "user", "content": '소마는 앉는다.\n"왔어?"'},
            {"role": "assistant", "content": '사야는 웃는다.\n"응, 왔어."'},
        ],
        "turns": [{"japanese": "うん、来たよ。", "player_japanese": "来た？"}],
    }
    run("translation-set", write(tmp_path / "in.jsonl", dialogue), tmp_path / "out.jsonl")
    assert [(row["input"], row["output"]) for row in read(tmp_path / "out.jsonl")] == [("왔어?", "来た？"), ("응, 왔어.", "うん、来たよ。")]
    scene = {"scene": {"narration": {"ko": "사야는 웃는다.", "jp": "サヤは笑う。"}, "dialogue": {"ko": "응.", "jp": "うん。"}}}
    run("translation-set", write(tmp_path / "in.jsonl", scene), tmp_path / "out.jsonl", "--narration")
    assert len(read(tmp_path / "out.jsonl")) == 2


def test_unite_drops_equal_rows_and_refuses_mixtures(tmp_path):
    first, second = write(tmp_path / "a.jsonl", CHAT, CHAT), write(tmp_path / "b.jsonl", CHAT, {**CHAT, "meta": {"id": 1}})
    counts = unite_files([first, second], tmp_path / "all.jsonl")
    assert isinstance(counts, RowCounts)
    assert (counts.rows, counts.kept, counts.dropped["duplicate"]) == (4, 2, 2)
    with pytest.raises(DataError, match=r"c\.jsonl:1: a singleturn row, but .*a\.jsonl holds messages rows"):
        run("unite", tmp_path / "all.jsonl", first, write(tmp_path / "c.jsonl", ROW))
    with pytest.raises(DataError, match="no known kind of row"):
        run("unite", tmp_path / "all.jsonl", write(tmp_path / "d.jsonl", {"x": 1}))
    assert len(read(tmp_path / "all.jsonl")) == 2


def grpo(tmp_path, *flags):
    return run(
        "grpo-set", "--inputs", tmp_path / "in.jsonl", "--out-train", tmp_path / "t.jsonl", "--out-eval", tmp_path / "e.jsonl", *flags
    )


def test_grpo_splits_by_scenario(tmp_path, capsys):
    def talk(system, number):
        turns = [{"role": "user", "content": f'"질문 {number}이에요."'}, {"role": "assistant", "content": f"사야는 {number}번째로 답한다."}]
        return {"messages": [{"role": "system", "content": system}, *turns]}

    write(tmp_path / "in.jsonl", *(talk(f"이야기 {number % 10}", number) for number in range(40)))
    assert grpo(tmp_path, "--eval-ratio", "0.2", "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["train"], counts["eval"], counts["scenarios"]) == (32, 8, 10)
    systems = [{row["prompt_messages"][0]["content"] for row in read(tmp_path / name)} for name in ("t.jsonl", "e.jsonl")]
    assert not systems[0] & systems[1]


def test_grpo_bad_flags(tmp_path):
    write(tmp_path / "in.jsonl", CHAT)
    with pytest.raises(ConfigError, match="--tokenizer DIR"):
        grpo(tmp_path, "--max-prompt-tokens", 10)
    with pytest.raises(ModelError, match=r"tokenizer\.json: no such file"):
        grpo(tmp_path, "--max-prompt-tokens", 10, "--tokenizer", tmp_path)
    for flags in (("--eval-ratio", "1"), ("--max-context-messages", "-1")):
        with pytest.raises(SystemExit) as caught:
            grpo(tmp_path, *flags)
        assert caught.value.code == 2
    with pytest.raises(DataError, match="no such file"):
        run("grpo-set", "--inputs", tmp_path / "none.jsonl", "--out-train", tmp_path / "t.jsonl", "--out-eval", tmp_path / "e.jsonl")


def test_grpo_counts_tokens_through_the_chat_template(tmp_path, capsys):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{%- for message in messages %}<s> {{ message.role }} {% if message.role == 'assistant' %}"
        "{%- generation %}{{ message.content }}"
        "{%- endgeneration %}{% else %}{{ message.content }}{% endif %} </s> {% endfor %}"
        "{% if add_generation_prompt %}<s> assistant{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    write(tmp_path / "in.jsonl", CHAT)
    assert grpo(tmp_path, "--max-prompt-tokens", 6, "--tokenizer", folder) == 0  # <s> user ... </s> <s> assistant
    capsys.readouterr()
    with pytest.raises(DataError, match="long_prompt 1"):
        grpo(tmp_path, "--max-prompt-tokens", 5, "--tokenizer_path", folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    with pytest.raises(ModelError, match="refuses a prompt"):
        grpo(tmp_path, "--max-prompt-tokens", 5, "--tokenizer", folder)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "rplab.cli.main", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_real_process_exit_codes(tmp_path):
    good, bad = write(tmp_path / "good.jsonl", ROW), write(tmp_path / "bad.jsonl", ROW, "{broken")
    done = command("data", "convert", good, tmp_path / "out.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "out.jsonl")[0]["messages"][0] == {"role": "system", "content": "설정"}
    failed = command("data", "convert", bad, tmp_path / "none.jsonl")
    assert failed.returncode == 2
    assert "bad.jsonl:2: not valid JSON" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "none.jsonl").exists()
    nowhere = command("data", "normalise", tmp_path / "out.jsonl", good / "x.jsonl")
    assert nowhere.returncode == 1
    assert "cannot write" in nowhere.stderr
    unreadable = command("data", "grpo-set", "--inputs", good / "x.jsonl", "--out-train", tmp_path / "t", "--out-eval", tmp_path / "e")
    assert unreadable.returncode == 2
    assert "cannot be read" in unreadable.stderr
