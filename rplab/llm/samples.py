"""Replies kept from a GRPO run, so that a person can see what the rewards like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rplab.stage import StageContext


class SampleFile:
    """completions.jsonl: some replies of some steps, with their rewards; survives a kill and holds no wall times."""

    def __init__(self, context: StageContext, wanted: int, max_steps: int) -> None:
        """Keep about `wanted` replies over `max_steps` steps."""
        self._path = context.resume / "completions.jsonl"
        self._target = context.out / "completions.jsonl"
        self._wanted = wanted
        self._max_steps = max_steps

    def rewind(self, step: int) -> None:
        """Forget what comes after `step` (and a torn last line)."""
        kept: list[str] = []
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] > step:
                        break
                except ValueError:
                    break
                kept.append(line + "\n")
        self._path.write_text("".join(kept), encoding="utf-8")

    def add(
        self,
        step: int,
        texts: Sequence[str],
        contexts: Sequence[Mapping[str, Any]],
        totals: Sequence[float],
        terms: Sequence[Mapping[str, float]],
    ) -> None:
        """Keep the step's share of replies: the first of its groups.

        Args:
            step: 1-based.
            texts: Replies.
            contexts: What they were judged against.
            totals: Weighted rewards.
            terms: Single rewards.
        """
        share = step * self._wanted // self._max_steps - (step - 1) * self._wanted // self._max_steps
        stride = max(1, len(texts) // max(1, share))
        with self._path.open("a", encoding="utf-8") as handle:
            for index in list(range(0, len(texts), stride))[:share]:
                context = contexts[index]
                row = {
                    "step": step,
                    "protagonist": context["protagonist"],
                    "register": str(context["register"]),
                    "user": context["user"],
                    "completion": texts[index],
                    "reward": totals[index],
                    "rewards": dict(terms[index]),
                }
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def publish(self) -> None:
        """Copy the file into the artefact."""
        shutil.copyfile(self._path, self._target)
