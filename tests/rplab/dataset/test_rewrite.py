"""Rewriting: guards decide, answers are recorded before use, a stopped run goes on where it was."""

import asyncio
import json
import threading

import pytest

from rplab.backend.base import ChatResult
from rplab.cli.main import main
from rplab.dataset.rewrite import Rewriter, rewrite_file
from rplab.dialogue.journal import Journal, request_hash
from rplab.errors import DataError, StageInterrupted


class Polisher:
    """Answers each turn by its original with one word more; some answers break a rule."""

    name = "polisher/1"

    def __init__(self, after=None, stop=None):
        self.asked, self.after, self.stop, self.prompts = 0, after, stop, []

    async def complete(self, request):
        self.asked += 1
        if self.after is not None and self.asked >= self.after:
            self.stop.set()
        await asyncio.sleep(0)
        self.prompts.append(request.messages)
        original = request.messages[-1]["content"].rpartition("원문:\n")[2]
        text = original.replace("어?", "습니까?") if "3번" in original else original.replace("다.\n", "다가 조용히 웃는다.\n", 1)
        return ChatResult(request.key, text, "length" if "4번" in original else "stop")

    async def aclose(self):
        return None


def rows(number=6):
    return [
        {
            "messages": [
                {"role": "system", "content": f"{at}번 이야기."},
                {"role": "user", "content": f'하야토는 {at}번 문을 연다.\n"여기 있어?"'},
                {"role": "assistant", "content": f'사야는 {at}번 창가에 선다.\n"왔어?"'},
                {"role": "user", "content": '하야토는 웃는다.\n"응."'},
                {"role": "assistant", "content": '사야도 웃는다.\n"그래."'},
            ],
            "meta": {"register": "반말", "id": at},
        }
        for at in range(number)
    ]


def write(path, items):
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return path


def run(tmp_path, backend, out="out.jsonl", stop=None, in_flight=4):
    with Journal(tmp_path / "journal") as journal:
        rewriter = Rewriter(backend, journal, request_hash, stop=stop)
        return asyncio.run(rewrite_file(tmp_path / "in.jsonl", tmp_path / out, rewriter, journal, in_flight=in_flight))


def test_guards_decide_and_every_turn_is_counted(tmp_path):
    write(tmp_path / "in.jsonl", rows())
    backend = Polisher()
    counts = run(tmp_path, backend)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert (counts.rows, counts.notes["turns"]) == (6, 24)
    assert dict(counts.dropped) == {"kept_original_speech_level_changed": 2, "kept_original_length": 2}
    assert counts.notes["turns_rewritten"] == 20
    assert out[0]["messages"][2]["content"] == '사야는 0번 창가에 선다가 조용히 웃는다.\n"왔어?"'
    assert out[3]["messages"][:3] == rows()[3]["messages"][:3]
    assert out[0]["meta"] == rows()[0]["meta"]
    later = next(prompt for prompt in backend.prompts if "사야도" in prompt[-1]["content"] and "0번 이야기" in prompt[0]["content"])
    assert "선다가 조용히 웃는다" in later[-1]["content"], "a turn sees the rewritten turns before it"


def test_a_stopped_run_asks_only_for_what_is_missing_and_ends_the_same(tmp_path):
    write(tmp_path / "in.jsonl", rows())
    stop = threading.Event()
    first = Polisher(after=7, stop=stop)
    with pytest.raises(StageInterrupted):
        run(tmp_path, first, stop=stop)
    assert not (tmp_path / "out.jsonl").exists()
    second = Polisher()
    run(tmp_path, second, in_flight=1)
    assert first.asked + second.asked == 24
    (tmp_path / "journal").unlink()
    run(tmp_path, Polisher(), out="whole.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_broken_rows_are_found_before_anything_is_asked(tmp_path):
    write(tmp_path / "in.jsonl", [*rows(1), {"messages": [{"role": "user", "content": None}]}])
    backend = Polisher()
    with pytest.raises(DataError, match=r"in\.jsonl:2"):
        run(tmp_path, backend)
    assert backend.asked == 0


def test_the_embedded_backend_is_refused(tmp_path, capsys):
    write(tmp_path / "in.jsonl", rows(1))
    assert main(["data", "rewrite", str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), "--backend", "scripted"]) == 2
    assert "cannot rewrite" in capsys.readouterr().err
