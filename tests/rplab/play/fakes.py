# ruff: noqa: ARG002, ARG005 - the engines have the signatures of the protocols
"""Engines and a conversation for tests of the session; loaded by `conftest.fakes`."""

import threading
import time

import numpy as np

from rplab.play.engines import PromptUsage
from rplab.play.history import Exchange

RATE = 8000
REPLY = '사야는 고개를 들었다.\n"왔구나. 비가 와서 못 오는 줄 알았어. 앉아."'


class Model:
    """Writes fixed replies, one character at a time; a token is a character, and a prompt's known beginning is not read again.

    `fault` is raised after `fault_after` characters; `spend(seconds)` and the two rates make it slow on a virtual clock.
    """

    context_tokens = 600

    def __init__(self, *replies, delay_s=0.0, fault_after=None, fault=None, hang_after=None, spend=None, token_s=0.0, prefill_s=0.0):
        self.replies = list(replies) or [REPLY]
        self.delay_s, self.fault_after, self.fault, self.hang_after = delay_s, fault_after, fault, hang_after
        self.spend, self.token_s, self.prefill_s = spend or (lambda seconds: None), token_s, prefill_s
        self.prompts, self.seeds, self.closed = [], [], 0
        self.usage = None
        self.usages = []
        self.read_ahead = 0
        self._cache = ""

    def count(self, messages):
        return len(self.render(messages))

    @staticmethod
    def render(messages):
        return "".join(f"<{message['role'][0]}>{message['content']}\n" for message in messages)

    def read(self, text):
        shared = next((i for i, (a, b) in enumerate(zip(self._cache, text, strict=False)) if a != b), min(len(self._cache), len(text)))
        self._cache = text
        self.spend((len(text) - shared) * self.prefill_s)
        return PromptUsage(len(text) - shared, shared)

    def prefill(self, messages, *, cancelled):
        self.read_ahead += self.read(self.render(messages)).new

    def stream(self, messages, sampling, *, seed, cancelled):
        self.prompts.append(messages)
        self.seeds.append(seed)
        self.usage = self.read(self.render(messages))
        self.usages.append(self.usage)
        text = self.replies[min(len(self.prompts), len(self.replies)) - 1]
        try:
            for index, character in enumerate(text):
                if index == self.fault_after:
                    raise self.fault
                if index == self.hang_after:
                    threading.Event().wait(3)
                if cancelled():
                    return
                if self.delay_s:
                    time.sleep(self.delay_s)
                self.spend(self.token_s)
                self._cache += character
                yield character
        finally:
            self.closed += 1


class Translator:
    def __init__(self, answer="はい、そうです。", fault=None, spend=None, seconds=0.0):
        self.answer, self.fault, self.batches = answer, fault, []
        self.spend, self.seconds = spend or (lambda seconds: None), seconds

    def translate(self, texts):
        self.batches.append(list(texts))
        self.spend(self.seconds * len(texts))
        if self.fault:
            raise self.fault
        return [self.answer for _ in texts]


class Voice:
    """Speaks a constant level in `pieces` pieces; `rtf` is its cost on a virtual clock."""

    name, sample_rate, styles = "test", RATE, ("happy", "悲しい")

    def __init__(self, fault=None, seconds=0.2, delay_s=0.0, pieces=2, spend=None, rtf=0.0):
        self.fault, self.seconds, self.delay_s, self.pieces = fault, seconds, delay_s, pieces
        self.spend, self.rtf = spend or (lambda seconds: None), rtf
        self.said, self.used, self.closed, self.cancelled = [], [], False, 0

    def stream(self, text, *, speed=1.0, pitch=0.0, style=""):
        self.said.append(text)
        self.used.append(style)
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.fault:
            raise self.fault
        for _ in range(self.pieces):
            self.spend(self.rtf * self.seconds / self.pieces)
            yield np.full(round(self.seconds * RATE / self.pieces), 0.3, dtype=np.float32)

    def synthesise(self, text, *, speed=1.0, pitch=0.0, style=""):
        return np.concatenate(list(self.stream(text)))

    def cancel(self):
        self.cancelled += 1

    def close(self):
        self.closed = True


class Notebook:
    """A chronicle in memory, without budget and memory: prompts are the system text and the last exchanges."""

    def __init__(self, system="너는 사야다."):
        self.system = system
        self.nodes = []
        self.head = None
        self.outcomes = {}
        self.closed = False

    @property
    def exchanges(self):
        path, node = [], self.head
        while node is not None:
            parent, user, reply = self.nodes[node]
            outcome = self.outcomes.get(node)
            path.append(Exchange(user, outcome.heard_text if outcome and outcome.heard_text is not None else reply))
            node = parent
        return path[::-1]

    @property
    def attempt(self):
        return sum(parent == self.head for parent, _, _ in self.nodes)

    def _messages(self, exchanges, user):
        pairs = [({"role": "user", "content": e.user}, {"role": "assistant", "content": e.reply}) for e in exchanges]
        return [{"role": "system", "content": self.system}, *(m for pair in pairs for m in pair), {"role": "user", "content": user}]

    def compose(self, user, count, room):
        kept = list(self.exchanges)
        while count(messages := self._messages(kept, user)) > room:
            if not kept:
                return None
            kept = kept[max(1, len(kept) // 3) :]
        return messages

    def commit(self, user, reply, *, complete):
        self.nodes.append((self.head, user, reply))
        self.head = len(self.nodes) - 1
        return self.head

    def finish(self, node, outcome):
        self.outcomes[node] = outcome

    def goto(self, node):
        self.head = node

    def parent(self, node):
        return self.nodes[node][0]

    def user_text(self, node):
        return self.nodes[node][1]

    def close(self):
        self.closed = True
