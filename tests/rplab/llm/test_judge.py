"""A judge behind a real HTTP endpoint: both orders, disagreement is a tie, nothing asked twice."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rplab.errors import BackendError
from rplab.llm.eval_config import JudgeConfig
from rplab.llm.judge import Contest, compare, read_verdict, render_comparisons, summarise

GOOD, BAD = '사야는 웃는다.\n"왔구나."', "네, 알겠습니다."


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server whose verdict is a function of the reply shown first."""

    def __init__(self, verdict):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                text = body["messages"][-1]["content"]
                first, _ = re.search(r"=== reply A ===\n(.*)\n\n=== reply B ===\n(.*)$", text, re.S).groups()
                status, content = verdict(first)
                answer = {
                    "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                } if status == 200 else {"error": {"message": content, "type": "invalid_request_error", "code": "bad"}}  # fmt: skip
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def config(self, **more):
        url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        backend = {"model": "judge-1", "base_url": url, "max_retries": 0, "timeout_s": 10}
        return JudgeConfig.model_validate({"backend": backend, **more})


@pytest.fixture
def serve():
    servers = []

    def start(verdict):
        servers.append(Server(verdict))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def contests(count):
    talk = [{"role": "system", "content": "「사야」 말투: 반말"}, {"role": "user", "content": "안녕?"}]
    return [Contest(str(number), [*talk, {"role": "user", "content": str(number)}], BAD, GOOD) for number in range(count)]


def say(better):
    return 200, json.dumps({"reason": "x", "better": better})


def test_the_better_model_wins_in_both_orders(serve, tmp_path):
    server = serve(lambda first: say("A" if first == GOOD else "B"))

    result = compare(server.config(), "sft", "grpo", contests(6), tmp_path / "kept.json", seed=1)

    assert (result.wins, result.ties, result.losses, result.unread) == (6, 0, 0, 0)
    assert result.score is not None
    assert result.score.mean == 1.0
    assert result.first_share == 0.5
    assert len(server.asked) == 12


def test_a_judge_that_likes_the_first_says_nothing(serve, tmp_path):
    server = serve(lambda _: say("A"))

    result = compare(server.config(), "sft", "grpo", contests(5), tmp_path / "kept.json", seed=1)

    assert (result.wins, result.ties, result.losses) == (0, 5, 0)
    assert result.first_share == 1.0
    assert "prefers the first shown in 100%" in "\n".join(render_comparisons({"x": result}, "judge-1"))


def test_a_resumed_run_asks_nothing_twice(serve, tmp_path):
    server = serve(lambda _: say("tie"))
    first = compare(server.config(), "sft", "grpo", contests(4), tmp_path / "kept.json", seed=1)

    again = compare(server.config(), "sft", "grpo", contests(4), tmp_path / "kept.json", seed=1)

    assert again == first
    assert len(server.asked) == 8


def test_equal_replies_are_a_tie_without_asking_and_garbage_is_counted(serve, tmp_path):
    server = serve(lambda _: (200, "I like both!"))
    same = Contest("same", [{"role": "user", "content": "안녕?"}], GOOD, GOOD)

    result = compare(server.config(), "sft", "grpo", [same, *contests(2)], tmp_path / "kept.json", seed=1)

    assert (result.ties, result.unread) == (1, 2)


def test_a_wrong_key_is_named(serve, tmp_path):
    server = serve(lambda _: (401, "wrong key"))

    with pytest.raises(BackendError, match="key"):
        compare(server.config(), "sft", "grpo", contests(1), tmp_path / "kept.json", seed=1)


@pytest.mark.parametrize(
    ("text", "verdict"), [('{"reason": "r", "better": "B"}', "B"), ('thinking... ```{"better" : "tie"}```', "tie"), ("A", None), ("", None)]
)
def test_verdicts_are_read_tolerantly(text, verdict):
    assert read_verdict(text) == verdict


def test_half_a_win_is_a_tie():
    result = summarise("a", "b", [("B", "tie"), ("B", "A"), ("A", "B"), (None, "A")], same=0, seed=1)

    assert (result.wins, result.ties, result.losses, result.unread) == (1, 1, 1, 1)
