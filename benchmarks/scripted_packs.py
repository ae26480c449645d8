"""What the embedded grammar gives: thousands of dialogues of every pack, held to the numbers that a data set is held to.

    python benchmarks/scripted_packs.py                       # 5,000 dialogues of v5, v6 and v7 (about half an hour)
    python benchmarks/scripted_packs.py --packs v7 --count 500

For each pack the stages `scenarios` and `dialogues` run as they are (plan mode, the pack's own number of turns), and then,
read back from the files alone:

    states        share of the reachable states (both machines) in which at least one exchange was spoken
    format        share of turns that pass every check of the pack again (first attempts are not counted apart)
    level         share of spoken lines in the speech level asked for, each judged by Kiwi alone (the project's own table is left out)
    leaks         turns with a character of a foreign script
    duplicates    identical dialogues, near-duplicate dialogues, identical replies, identical spoken lines (shares)
    in flight     whether the files of a run with 1 and with 64 dialogues in flight are the same bytes

The exit code is 1 when a number misses its limit. `--kiwi-share` judges every n-th line only; what is printed says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiwipiepy import Kiwi

from rplab.character import Register
from rplab.dataset.near_duplicates import find_near_duplicates
from rplab.dialogue.checks import find_fault
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig
from rplab.dialogue.generate import generate_dialogues
from rplab.dialogue.inspect import reachable_states
from rplab.dialogue.pack import Pack, load_pack, pack_names
from rplab.dialogue.scenario import generate_scenarios
from rplab.dialogue.turn import TurnContext, split_turn
from rplab.stage import StageContext
from rplab.text.korean import find_leaks

LIMITS = {"states": 0.95, "format": 1.0, "level": 0.99}
MOST = {"leaks": 0, "same_dialogues": 0.01, "near_dialogues": 0.01, "near_replies": 0.01, "same_replies": 0.01, "same_speech": 0.01}
NEAR = 0.85
"""Jaccard similarity of character trigrams from which two texts count as near-duplicates (the data set builder's measure)."""


@dataclass
class Counts:
    """What was counted in the dialogues of one pack."""

    dialogues: int = 0
    turns: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    leaks: int = 0
    lines: int = 0
    wrong_level: Counter[str] = field(default_factory=Counter[str])
    states: set[str] = field(default_factory=set[str])
    texts: Counter[str] = field(default_factory=Counter[str])
    replies: Counter[str] = field(default_factory=Counter[str])
    speech: Counter[str] = field(default_factory=Counter[str])
    exchanges: Counter[int] = field(default_factory=Counter[int])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packs", nargs="+", default=pack_names())
    parser.add_argument("--count", type=int, default=5000, help="dialogues of each pack")
    parser.add_argument("--kiwi-share", type=float, default=1.0, help="share of the spoken lines that Kiwi judges")
    parser.add_argument("--skip-one-in-flight", action="store_true", help="leave out the second run that must give the same bytes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.packs:
        with tempfile.TemporaryDirectory(prefix=f"rplab-{name}-") as folder:
            result = measure(load_pack(name), Path(folder), arguments)
        misses = find_misses(result)
        failed |= bool(misses)
        print(json.dumps({**result, "misses": misses}, ensure_ascii=False, indent=None if arguments.json else 2), flush=True)
    return int(failed)


def measure(pack: Pack, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Generate and count one pack."""
    started = time.monotonic()
    scenarios = _context(folder / "scenarios")
    generate_scenarios(ScenariosConfig(pack=pack.name, count=arguments.count), {}, scenarios)
    out = _context(folder / "dialogues-64")
    stats = generate_dialogues(DialoguesConfig(pack=pack.name, in_flight=64), {"scenarios": scenarios.out}, out)
    generated = time.monotonic() - started
    same: bool | None = None
    if not arguments.skip_one_in_flight:
        single = _context(folder / "dialogues-1")
        generate_dialogues(DialoguesConfig(pack=pack.name, in_flight=1), {"scenarios": scenarios.out}, single)
        same = all(_digest(out.out / name) == _digest(single.out / name) for name in ("dialogues.jsonl", "rejects.jsonl", "partial.jsonl"))
    counts = count(pack, _rows(out.out / "dialogues.jsonl"), arguments.kiwi_share)
    reachable = {f"{machine}.{state}" for machine, states in reachable_states(pack).items() for state in states}
    lost = arguments.count - len(_lines(out.out / "dialogues.jsonl"))
    return {
        "pack": f"{pack.name} version {pack.version}",
        "dialogues": counts.dialogues,
        "not_accepted": {"dialogues": lost, "rejected": stats["rejected"], "failed": stats["failed"]},
        "refused_attempts": stats["refused_attempts"],
        "exchanges": dict(sorted(counts.exchanges.items())),
        "states": round(len(reachable & counts.states) / len(reachable), 4),
        "reachable": len(reachable),
        "missed_states": sorted(reachable - counts.states),
        "format": 1 - counts.faults.total() / counts.turns,
        "faults": dict(counts.faults),
        "level": round(1 - counts.wrong_level.total() / max(1, counts.lines), 5),
        "level_lines": counts.lines,
        "wrong_level": dict(counts.wrong_level.most_common(10)),
        "leaks": counts.leaks,
        "same_dialogues": _repeated(counts.texts),
        "near_dialogues": near_share(list(counts.texts.elements())),
        "near_replies": near_share(list(counts.replies.elements())),
        "same_replies": _repeated(counts.replies),
        "same_speech": _repeated(counts.speech),
        "commonest_speech": dict(counts.speech.most_common(5)),
        "same_bytes_with_1_and_64_in_flight": same,
        "turns_per_s": round(counts.turns / generated),
        "seconds": round(time.monotonic() - started),
    }


def count(pack: Pack, rows: Iterable[dict[str, Any]], kiwi_share: float) -> Counts:
    """Read dialogues back and count; nothing is taken from what the engine said about them."""
    kiwi = Kiwi(num_workers=1)
    counts = Counts()
    for row in rows:
        counts.dialogues += 1
        counts.exchanges[len(row["turns"])] += 1
        counts.states |= {f"relation.{turn['state']}" for turn in row["turns"]} | {f"action.{turn['action']}" for turn in row["turns"]}
        said: dict[str, list[str]] = {"user": [], "assistant": []}
        for message, turn in zip(row["messages"][1:], (turn for turn in row["turns"] for _ in range(2)), strict=True):
            _count_turn(pack, row["meta"], message, turn, said, counts)
            if int(counts.turns * kiwi_share) > int((counts.turns - 1) * kiwi_share):
                _count_level(row["meta"], message, kiwi, counts)
            said[message["role"]].append(message["content"])
        counts.texts["\n".join(message["content"] for message in row["messages"][1:])] += 1
    return counts


def _count_turn(
    pack: Pack, meta: dict[str, Any], message: dict[str, str], turn: dict[str, Any], said: dict[str, list[str]], counts: Counts
) -> None:
    role, text = message["role"], message["content"]
    counts.turns += 1
    side = "user" if role == "user" else "crisis" if turn["mode"] == "crisis" else "asst"
    other = said["assistant" if role == "user" else "user"]
    register = Register(meta["register"]) if role == "assistant" else None
    context = TurnContext(side, meta["protagonist"], meta["player"], register, tuple(other), tuple(said[role]))
    finding, noted = find_fault(text, context, pack.checks_for(side))
    for found in (*noted, *([finding] if finding else [])):
        counts.faults[found.code] += 1
    counts.leaks += bool(find_leaks(text))
    if role == "assistant":
        counts.replies[text] += 1
        counts.speech[split_turn(text).speech] += 1


def _count_level(meta: dict[str, Any], message: dict[str, str], kiwi: Any, counts: Counts) -> None:
    """Both sides speak in the register of the scenario."""
    wanted = meta["register"] == Register.POLITE.value
    speech = split_turn(message["content"]).speech
    counts.lines += 1
    found = {polite for sentence in kiwi.split_into_sents(speech) if (polite := is_polite(kiwi, sentence.text)) is not None}
    if found != {wanted}:
        counts.wrong_level[f"{'polite' if wanted else 'casual'} was asked for: {speech}"] += 1


def is_polite(kiwi: Any, sentence: str) -> bool | None:
    """Return whether the last final ending of a sentence is polite; None without one. Nothing of rplab.text is used."""
    for token in reversed(kiwi.tokenize(sentence)):
        if token.tag == "JX" and token.form == "요":
            return True
        if token.tag == "EF":
            return token.form.endswith(("요", "죠", "니다", "니까", "시오", "시다"))
    return None


def near_share(texts: list[str]) -> float:
    """Return the share of texts that nearly equal an earlier one (identical ones included)."""
    return round(len(find_near_duplicates(texts, NEAR)) / max(1, len(texts)), 5)


def _repeated(counter: Counter[str]) -> float:
    """Return the share of items that repeat an earlier one."""
    return round(1 - len(counter) / max(1, counter.total()), 5)


def find_misses(result: dict[str, Any]) -> list[str]:
    """Return the numbers that miss their limit."""
    misses = [name for name, least in LIMITS.items() if result[name] < least]
    misses += [name for name, most in MOST.items() if result[name] > most]
    if result["same_bytes_with_1_and_64_in_flight"] is False:
        misses.append("same_bytes_with_1_and_64_in_flight")
    if result["not_accepted"]["dialogues"]:
        misses.append("not_accepted")
    return misses


def _context(folder: Path) -> StageContext:
    folder.mkdir(parents=True)
    return StageContext(out=folder, resume=folder.with_name(folder.name + ".resume"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _lines(path))


if __name__ == "__main__":
    sys.exit(main())
