"""What is remembered: scores, contradictions, branches, retrieval, lore; and the prompt that carries it within its budget."""

import http.server
import json
import threading
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rplab.character import LoreEntry
from rplab.errors import BackendError
from rplab.play.embeddings import Embedder
from rplab.play.extract import digest, find_by_rules, read_candidates
from rplab.play.lore import find_lore, fit_lore
from rplab.play.memory import Candidate, Memory, MemoryEvent, score
from rplab.play.memory_config import EmbeddingConfig, MemoryConfig
from rplab.play.prompt import World, window_start
from rplab.play.recall import Recall
from rplab.play.sessions import open_session
from rplab.play.timeline import Timeline
from rplab.play.tree import Node


def learn(memory, turn, kind, key, value, **scores):
    memory.add(MemoryEvent(turn, "candidate", Candidate(kind, "카즈키", key, value, **scores)))


def texts(slots):
    return [(slot.candidate.key, slot.candidate.value) for slot in slots]


# -- memory


def test_score_is_the_predecessors():
    promise = Candidate("promise", "카즈키", "바다", "같이 간다", 1.0, 1.0, 1.0)

    assert score(promise, earlier=0, novelty=1.0) == pytest.approx(0.9)
    assert score(promise, earlier=9, novelty=1.0) == pytest.approx(1.0)
    assert score(Candidate("weather", "카즈키", "a", "b", 0, 0, 0), earlier=0, novelty=0) == pytest.approx(0.15)


def test_contradiction_replaces_the_memory_and_keeps_what_was_believed():
    memory = Memory(0.5)
    learn(memory, 1, "fact", "사는 곳", "부산")
    learn(memory, 2, "fact", "사는 곳", "서울")

    (slot,) = memory.slots([1, 2])

    assert (slot.candidate.value, slot.before, slot.id) == ("서울", ("부산",), 1)


def test_doubtful_contradiction_does_not_replace_a_sure_memory():
    memory = Memory(0.5)
    learn(memory, 1, "promise", "여행", "제주도", confidence=1.0)
    learn(memory, 2, "promise", "여행", "부산", confidence=0.5)

    (slot,) = memory.slots([1, 2])

    assert (slot.candidate.value, slot.doubted) == ("제주도", "부산")


def test_liking_and_disliking_one_thing_is_a_contradiction_under_any_key():
    memory = Memory(0.5)
    learn(memory, 1, "preference", "좋아하는 음식", "민트초코")
    learn(memory, 2, "preference", "민트초코", "싫어한다")
    learn(memory, 3, "preference", "커피", "좋아한다")

    assert texts(memory.slots([1, 2, 3])) == [("민트초코", "싫어한다"), ("커피", "좋아한다")]
    assert texts(memory.slots([1])) == [("좋아하는 음식", "민트초코")]


def test_what_is_said_again_and_again_is_remembered_in_the_end():
    memory = Memory(0.5)
    for turn in range(1, 5):
        learn(memory, turn, "emotion", "기분", "외롭다", confidence=0.7, future_impact=0.3, emotion_intensity=0.4)

    assert memory.slots([1]) == []
    assert texts(memory.slots([1, 2, 3, 4])) == [("기분", "외롭다")]


def test_branch_remembers_its_own_turns_only(tmp_path):
    timeline = Timeline(World("", "사야", "카즈키"), open_session(tmp_path, "one", "사야"))
    first = timeline.commit("안녕", "응", complete=True)
    second = timeline.commit("나는 부산에 살아", "그래", complete=True)
    timeline.remember([MemoryEvent(second, "candidate", Candidate("fact", "카즈키", "사는 곳", "부산"))])
    timeline.goto(first)
    third = timeline.commit("나는 서울에 살아", "그래", complete=True)
    timeline.remember([MemoryEvent(third, "candidate", Candidate("fact", "카즈키", "사는 곳", "서울"))])
    timeline.close()

    again = Timeline(World("", "사야", "카즈키"), open_session(tmp_path, "one", "사야"))

    assert texts(again.prompter.slots()) == [("사는 곳", "서울")]
    again.goto(second)
    assert texts(again.prompter.slots()) == [("사는 곳", "부산")]
    again.goto(first)
    assert again.prompter.slots() == []
    again.close()


def test_pin_and_forget_belong_to_the_branch_as_well():
    timeline = Timeline(World("", "사야", "카즈키"))
    first = timeline.commit("a", "b", complete=True)
    timeline.remember([MemoryEvent(first, "candidate", Candidate("fact", "카즈키", "사는 곳", "부산"))])
    second = timeline.commit("c", "d", complete=True)
    timeline.remember([MemoryEvent(second, "forget", slot=("카즈키", "사는 곳"))])

    assert timeline.prompter.slots() == []
    timeline.goto(first)
    timeline.remember([MemoryEvent(first, "pin", slot=("카즈키", "사는 곳"))])
    assert [slot.pinned for slot in timeline.prompter.slots()] == [True]


# -- extraction


@pytest.mark.parametrize(
    ("said", "kind", "key", "value"),
    [
        ("나는 민트초코를 정말 좋아해.", "preference", "민트초코", "좋아한다"),
        ("나는 사실 민트초코를 싫어해.", "preference", "민트초코", "싫어한다"),
        ("내 생일은 3월 2일이야.", "fact", "생일", "3월 2일"),
        ("나 부산에 살아.", "fact", "사는 곳", "부산"),
        ("나는 스물여섯 살이야.", "fact", "나이", "스물여섯 살"),
        ("내일 같이 바다 보러 가자.", "plan", "내일", "내일 같이 바다 보러 가자"),
        ("우리는 이제 친구야.", "relationship", "사야와의 사이", "친구"),
        ("오늘 너무 외로워.", "emotion", "기분", "외롭다"),
        ("나를 꼬맹이라고 부르지 마.", "boundary", "나를 꼬맹이라고 부르", "나를 꼬맹이라고 부르지 마"),
    ],
)
def test_rules_read_what_the_player_says_plainly(said, kind, key, value):
    found = find_by_rules(Node(1, 0, f"*웃는다* {said}", "응"), player="카즈키", character="사야")

    assert [(item.type, item.key, item.value) for item in found] == [(kind, key, value)]


@pytest.mark.parametrize("said", ["너는 뭐 좋아해?", "비가 오는데 오늘은 같이 있어도 돼?", "안녕", "", "네가 좋아", "..."])
def test_rules_make_nothing_up(said):
    assert find_by_rules(Node(1, 0, said, "나는 커피를 좋아해."), player="카즈키", character="사야") == []


@given(st.text(max_size=80))
def test_rules_and_the_reader_of_answers_take_any_text(text):
    find_by_rules(Node(1, 0, text, text), player="카즈키", character="사야")
    read_candidates(text)


def test_answer_of_the_model_is_read_around_its_chatter_and_drops_are_counted():
    rows = [
        {"type": "fact", "subject": "카즈키", "key": "직업", "value": "목수", "confidence": "nan"},
        {"type": "fact"},
        "x",
        {"type": "odd"},
    ]
    answer = f"<think></think> 네! ```json\n{json.dumps({'candidates': rows}, ensure_ascii=False)}\n```"

    found = read_candidates(answer)

    assert [(item.key, item.confidence) for item in found.candidates] == [("직업", 0.8)]
    assert found.num_dropped == 3
    assert read_candidates("잘 모르겠어.") is None
    assert read_candidates('{"candidates": 3}') is None


def test_digest_keeps_the_newest_when_room_is_short():
    nodes = [Node(index, index - 1, f"말 {index}", "응") for index in range(1, 40)]

    text = digest("", nodes, player="카즈키", character="사야", max_chars=200)

    assert len(text) <= 200
    assert "말 39" in text
    assert "말 1”" not in text


# -- recall and lore


def test_two_syllable_words_with_particles_and_rare_words_are_found():
    recall = Recall()
    for number, text in enumerate(["비밀은 등대 아래에 있다", "카즈키는 부산에 산다", "민트초코를 좋아한다", "비가 오는 날"], 1):
        recall.put(number, text)

    assert next(iter(recall.search("우리 비밀 기억해?", {1, 2, 3, 4}))) == 1
    assert next(iter(recall.search("민트초코 사 왔어", {1, 2, 3, 4}))) == 3
    assert 3 not in recall.search("민트초코 사 왔어", {1, 2, 4})
    assert recall.search("", {1, 2}) == {}
    recall.put(3, "커피를 좋아한다")
    assert 3 not in recall.search("민트초코", {3})


def test_embeddings_find_what_shares_no_word():
    recall = Recall()
    recall.put(1, "강아지를 키운다")
    recall.put(2, "비가 온다")
    recall.put_vector(1, [1.0, 0.1])
    recall.put_vector(2, [0.0, 1.0])

    found = recall.search("멍멍이", {1, 2}, [2.0, 0.0])

    assert next(iter(found)) == 1
    assert found[1] > 0.9


@given(st.text(max_size=60), st.lists(st.text(max_size=30), max_size=5))
def test_any_text_can_be_searched(query, stored):
    recall = Recall()
    for number, text in enumerate(stored):
        recall.put(number, text)

    assert all(0 < fit <= 1 for fit in recall.search(query, range(len(stored))).values())


class Endpoint(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["input"])
        rows = [{"index": index, "embedding": [float(len(text)), 1.0]} for index, text in enumerate(body["input"])]
        answer = json.dumps({"data": rows[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_embeddings_come_from_an_endpoint_once_and_stay_in_the_session(tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = EmbeddingConfig(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", timeout_s=5.0)
    archive = open_session(tmp_path, "one", "사야")

    vectors = Embedder(config, archive).embed(["가", "나다", "가"])
    again = Embedder(config, archive).embed(["나다"])
    server.shutdown()
    server.server_close()

    assert [vector[0] for vector in vectors] == [1.0, 2.0, 1.0]
    assert again[0].tolist() == [2.0, 1.0]
    assert Endpoint.asked == [["가", "나다"]]
    with pytest.raises(BackendError, match=r"memory\.embeddings"):
        Embedder(config).embed_query("다")
    archive.close()


def lore(*keys, content="내용", **fields):
    return LoreEntry(keys=keys, content=content, **fields)


def test_lore_is_told_when_its_keys_come_up():
    entries = [
        lore("등대", content="등대"),
        lore("art", content="art"),
        lore("바다", secondary_keys=("밤",), content="밤바다"),
        lore(constant=True, content="언제나"),
        lore("옛날", scan_depth=1, content="옛날"),
        lore("고양이", priority=9, content="고양이"),
    ]

    def told(*messages):
        return [hit.entry.content for hit in find_lore(entries, messages, depth=3)]

    assert told("등대에는 누가 살아?", "몰라") == ["언제나", "등대"]
    assert told("let's start", "Art는 어때?") == ["언제나", "art"]
    assert told("바다로 가자") == ["언제나"]
    assert told("밤에", "바다로 가자") == ["언제나", "밤바다"]
    assert told("옛날에", "응") == ["언제나"]
    assert told("등대와 고양이") == ["언제나", "고양이", "등대"]
    assert told("등대", "1", "2", "3") == ["언제나"]


def test_lore_that_does_not_fit_makes_way():
    hits = find_lore(
        [lore("가", content="x" * 50, priority=2), lore("가", content="x" * 90, priority=1), lore("가", content="xx")], ["가"], depth=1
    )

    assert [len(hit.entry.content) for hit in fit_lore(hits, len, 60)] == [50, 2]


# -- the prompt


def count(messages):
    return sum(len(message["content"]) + 4 for message in messages)


def world(**fields):
    return World("너는 사야다. " * 10, "사야", "카즈키", '"왔구나."', **fields)


def test_prompt_shows_the_greeting_and_puts_memory_and_lore_last():
    timeline = Timeline(world(lore=(lore("등대", content="등대는 꺼졌다."),)))
    timeline.remember([MemoryEvent(0, "candidate", Candidate("fact", "카즈키", "사는 곳", "부산", 0.9, 0.6))])
    timeline.commit("나는 목수야", "그래", complete=True)

    messages = timeline.compose("부산 등대 보러 갈래?", count, 4000)

    assert [message["role"] for message in messages] == ["system", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == timeline.prompter.world.system
    assert messages[1]["content"] == '"왔구나."'
    last = messages[-1]["content"]
    assert last.endswith("\n부산 등대 보러 갈래?")
    assert "사는 곳: 부산" in last
    assert "등대는 꺼졌다." in last
    assert messages[2]["content"] == "나는 목수야"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=60), st.text(min_size=1, max_size=120)), max_size=30),
    st.text(max_size=200),
    st.integers(150, 2500),
    st.integers(0, 12),
)
def test_budget_never_drops_the_system_text_or_the_new_message(said, user, room, max_turns):
    timeline = Timeline(world(max_turns=max_turns, lore=(lore(constant=True, content="세계 " * 30),)))
    for text, reply in said:
        node = timeline.commit(text, reply, complete=True)
        timeline.remember([MemoryEvent(node, "candidate", Candidate("promise", "카즈키", text or "x", "약속", 1, 1, 1))])

    messages = timeline.compose(user, count, room)

    smallest = count([{"role": "system", "content": timeline.prompter.world.system}, {"role": "user", "content": user}])
    assert (messages is None) == (smallest > room)
    if messages is not None:
        assert count(messages) <= room
        assert messages[0]["content"].startswith(timeline.prompter.world.system)
        assert messages[-1]["role"] == "user"
        assert messages[-1]["content"].endswith(user)
        assert messages == timeline.compose(user, count, room)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 300), st.integers(0, 12))
def test_window_moves_forward_in_blocks_and_never_holds_too_much(costs, room, max_turns):
    starts = [window_start(costs[:end], room, max_turns) for end in range(1, len(costs) + 1)]

    assert starts == sorted(starts)
    for end, start in enumerate(starts, 1):
        assert end - start <= max_turns
        assert sum(costs[start:end]) <= room


def test_turn_20_reads_no_more_new_tokens_than_turn_2():
    """What the model must read of a prompt is what comes after the longest beginning that it has read before."""
    timeline = Timeline(world(max_turns=8, lore=(lore("비", content="비가 잦은 마을"),)))
    read, new = "", []
    for turn in range(1, 31):
        user = f"{turn:02} 비가 오는 날에는 무엇을 하고 지내?"
        prompt = render(timeline.compose(user, count, 3000))
        new.append(len(prompt) - shared(read, prompt))
        reply = f'사야는 창밖을 본다. "책을 읽어. {turn:02}번째야."'
        node = timeline.commit(user, reply, complete=True)
        timeline.remember([MemoryEvent(node, "candidate", Candidate("fact", "카즈키", f"일 {turn}", "비가 온다"))])
        read = render(timeline.compose("", count, 3000))  # what the session reads ahead after the sound

    assert new[19] <= 1.3 * new[1]
    assert max(new[1:]) <= 1.3 * new[1]


def render(messages):
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def shared(left, right):
    return next((index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def test_what_leaves_the_window_is_summarised_and_recalled_when_it_fits():
    timeline = Timeline(world(max_turns=4, config=MemoryConfig(memory_tokens=400)))
    timeline.commit("지하실 열쇠는 시계 안에 숨겼어", "기억할게.", complete=True)
    for index in range(8):
        timeline.commit(f"말 {index}", "응.", complete=True)
    timeline.compose("x", count, 4000)

    gap = timeline.prompter.find_gap()
    timeline.summarise(gap.until, digest(gap.summary, gap.nodes, player="카즈키", character="사야", max_chars=300))
    messages = timeline.compose("지하실 열쇠가 어디 있더라?", count, 4000)

    assert timeline.prompter.find_gap() is None
    assert "[지금까지의 이야기]" in messages[0]["content"]
    assert messages[0]["content"].startswith(timeline.prompter.world.system)
    assert "시계 안에 숨겼어" in messages[-1]["content"]
    assert len(messages) <= 2 + 2 * 4


def test_memory_switched_off_leaves_the_window_alone():
    timeline = Timeline(world(config=MemoryConfig(enabled=False)))
    node = timeline.commit("나는 부산에 살아", "그래", complete=True)
    timeline.remember([MemoryEvent(node, "candidate", Candidate("promise", "카즈키", "부산", "간다", 1, 1, 1))])

    assert timeline.compose("부산", count, 4000)[-1]["content"] == "부산"
