"""The data report as one static HTML page: no server, no network, no script; equal facts give equal bytes.

To add a section: write a function from facts to HTML, put it into `_SECTIONS` with its title.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rplab.dataset.card import show_money
from rplab.dataset.html_parts import bars, box, columns, conversation, escape, funnel, heat, number, share, table, tile
from rplab.dataset.html_style import STYLE

Facts = Mapping[str, Any]

_SAMPLES = 3
_STAGES = ("singleturn", "scenarios", "dialogues", "judge")
_SOURCES = {"single": "Single-turn rows", "multi": "Dialogues"}
_LATER = {"single": "single, normalise", "multi": "multi, partial"}


def render_report(facts: Facts) -> str:
    """Return the page.

    Args:
        facts: What `rplab.dataset.card.describe` found.
    """
    parts = [(title, anchor, section(facts)) for title, anchor, section in _SECTIONS]
    shown = [item for item in parts if item[2]]
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for title, anchor, _ in shown)
    body = "".join(f'<h2 id="{anchor}">{escape(title)}</h2>{content}' for title, anchor, content in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Role-play data set</title><style>{STYLE}</style></head><body><main>\n<h1>Role-play data set</h1>"
        '<p class="soft">Synthetic Korean role-play conversations with Japanese speech lines, for general audiences.</p>'
        f"<nav>{links}</nav>{_tiles(facts)}{body}\n</main></body></html>\n"
    )


def _tiles(facts: Facts) -> str:
    rows, stats = facts["rows"], facts["stats"]
    if not rows:
        return ""
    agree = rows["speech_level_agrees"]
    judged = agree.get("agrees", 0) + agree.get("differs", 0)
    tiles = [
        tile(number(rows["num"]), "conversations"),
        tile(number(rows["replies"]), "replies"),
        tile(share(rows["distinct_replies"], rows["replies"]), "of the replies are different"),
        tile(
            share(agree.get("agrees", 0), judged), "speech level as asked for", "good" if agree.get("agrees", 0) >= 0.99 * judged else "bad"
        ),
        tile(number(rows["near_duplicates"]), "near duplicates", "bad" if rows["near_duplicates"] > 0.01 * rows["num"] else "good"),
    ]
    if rows["paths"] and "state" in rows["paths"]["coverage"]:
        found = rows["paths"]["coverage"]["state"]
        kind = "good" if found["visited"] >= 0.95 * found["reachable"] else "bad"
        tiles.append(tile(f"{found['visited']} of {found['reachable']}", "reachable states visited", kind))
    if stats and (usage := stats.get("usage")):
        tiles.append(_cost_tile(usage))
    if stats:
        leaks = sum(stats["leakage"].values())
        tiles.append(tile(number(leaks), "rows on both sides of the split", "bad" if leaks else "good"))
        tiles.append(tile(f"{stats['scenarios']['train']:,} + {stats['scenarios']['eval']:,}", "scenarios, train + eval"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _cost_tile(usage: Mapping[str, Mapping[str, Any]]) -> str:
    prices = [used["usd"] for used in usage.values()]
    known = [price for price in prices if price is not None]
    tokens = sum(used["prompt_tokens"] + used["completion_tokens"] for used in usage.values())
    if len(known) < len(prices):
        return tile(_short_number(tokens), "tokens (price not known)")
    return tile(show_money(sum(known)), f"for {_short_number(tokens)} tokens")


def _short_number(value: int) -> str:
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:,}"


def _cost(facts: Facts) -> str:
    """Show what each stage asked of which text model, and what that cost."""
    usage = facts["stats"].get("usage") if facts["stats"] else None
    if not usage:
        return ""
    rows = [
        [stage, used["model"], used["answers"], used["prompt_tokens"], used["completion_tokens"], show_money(used["usd"])]
        for stage, used in sorted(usage.items(), key=lambda item: (_STAGES.index(item[0]) if item[0] in _STAGES else len(_STAGES), item[0]))
    ]
    head = ["used by", "text model", "answers", "prompt tokens", "completion tokens", "cost"]
    per_row = ""
    if facts["rows"] and facts["rows"]["num"]:
        tokens = sum(used["prompt_tokens"] + used["completion_tokens"] for used in usage.values())
        per_row = f'<p class="soft">{tokens / facts["rows"]["num"]:,.0f} tokens for each conversation that was kept.</p>'
    return per_row + box("Answers, tokens, money", table(head, rows))


def _funnel(facts: Facts) -> str:
    """Show what each stage left of the rows, check by check."""
    if not facts["stats"]:
        return ""
    read, dropped = facts["stats"]["yield"]["read"], facts["stats"]["yield"]["dropped"]
    boxes: list[str] = []
    for kind, title in _SOURCES.items():
        own = dropped.get(kind, {})
        kept = read.get(kind, 0) - sum(own.values())
        lost = {**dropped.get(_LATER[kind], {}), **own}
        boxes.append(_steps(title, kept, lost))
    if facts["rows"]:
        singles = facts["rows"]["by"]["kind"].get("single", 0)
        boxes.insert(1, _steps("Answers for single-turn rows", singles, dropped.get("single, attempts", {})))
        turns = 2 * (facts["rows"]["replies"] - singles)
        boxes.append(_steps("Answers for turns of dialogues", turns, dropped.get("multi, attempts", {})))
    note = '<p class="soft">What each check took away, one after the other; an answer that was refused is asked for again.</p>'
    return f'{note}<div class="flow">{"".join(boxes)}</div>'


def _steps(title: str, kept: int, lost: Mapping[str, int]) -> str:
    total = kept + sum(lost.values())
    if not total:
        return ""
    steps = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    return box(f"{title}: {kept:,} of {total:,} kept", funnel(total, steps))


def _drops(facts: Facts) -> str:
    """Show samples of what was left out, reason by reason."""
    if not facts["stats"]:
        return ""
    boxes: list[str] = []
    for source, reasons in facts["stats"]["yield"]["dropped"].items():
        ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        parts = [
            _reason(reason, count, facts["drops"].get(source, {}).get(reason, []), first=not at and not boxes)
            for at, (reason, count) in enumerate(ordered)
        ]
        boxes.append(box(source, "".join(parts)))
    return f'<div class="flow">{"".join(boxes)}</div>' if boxes else '<p class="soft">Nothing was left out.</p>'


def _reason(reason: str, count: int, texts: Sequence[str], *, first: bool) -> str:
    quotes = "".join(f"<blockquote>{escape(text)}</blockquote>" for text in texts[:_SAMPLES])
    title = f'<b>{escape(reason)}</b> <span class="soft">{count:,}</span>'
    return f"<details{' open' if first else ''}><summary>{title}</summary>{quotes}</details>" if quotes else f'<p class="plain">{title}</p>'


def _content(facts: Facts) -> str:
    rows = facts["rows"]
    if not rows:
        return ""
    registers = sorted({name for row in rows["genre_by_register"].values() for name in row})
    mix = [[genre, *(row.get(name, 0) for name in registers), sum(row.values())] for genre, row in rows["genre_by_register"].items()]
    by = rows["by"]
    boxes = [
        box("Characters of a reply", columns(rows["reply_lengths"], "characters")),
        box("Characters of a player turn", columns(rows["user_lengths"], "characters")),
        box("Exchanges of a conversation", columns(rows["exchanges"], "exchanges")),
        box("Genre and register asked for", table(["genre", *registers, "all"], mix)),
        box("Speech level measured", bars(by["speech_level"]) + "<p></p>" + bars(rows["speech_level_agrees"], kinds=_AGREES)),
        box("Protagonist", bars(by["protagonist"], limit=8)),
        box("Player", bars(by["player"], limit=8)),
        box("Text model and pack", bars(by["backend"]) + "<p></p>" + bars(by["pack"], kinds=dict.fromkeys(by["pack"], "c"))),
    ]
    return f'<div class="flow">{"".join(boxes)}</div>'


_AGREES = {"agrees": "good", "differs": "bad"}


def _paths(facts: Facts) -> str:
    paths = facts["rows"]["paths"] if facts["rows"] else None
    if not paths:
        return ""
    told = f"{paths['dialogues']:,} dialogues took {paths['different_paths']:,} different paths (entropy {paths['path_entropy_bits']} bits)"
    for kind, found in paths["coverage"].items():
        told += f"; {found['visited']} of {found['reachable']} reachable {kind}s were visited"
    boxes = [
        box("States of the relation", bars(paths["states"], kinds=_unvisited(paths["states"], ""), limit=24)),
        box("States of the action", bars(paths["actions"], kinds=_unvisited(paths["actions"], "c"), limit=24)),
        box("From state (row) to state (column)", heat(paths["moves"]), wide=True),
        box("Most frequent paths, stays left out", table(["path", "dialogues"], paths["paths"]), wide=True),
    ]
    return f'<p class="soft">{escape(told)}.</p><div class="grid">{"".join(boxes)}</div>'


def _unvisited(counts: Mapping[str, int], kind: str) -> dict[str, str]:
    return {name: kind if number else "bad" for name, number in counts.items()}


def _diversity(facts: Facts) -> str:
    if not facts["rows"]:
        return ""
    boxes: list[str] = []
    for kind, found in facts["rows"]["diversity"].items():
        rows = [
            ["texts", f"{found['texts']:,} ({share(found['different'], found['texts'])} different)"],
            ["characters on average", f"{found['mean_chars']}"],
            ["compression ratio (lower = more varied)", f"{found['compression_ratio']}"],
            ["share a run of 4 words with another text", f"{found['self_repetition_4']:.1%}"],
            ["distinct words / pairs / triples", " / ".join(f"{found[f'distinct_{n}']:.1%}" for n in (1, 2, 3))],
        ]
        boxes.append(box(kind.capitalize(), table(["measure", "value"], rows)))
    return f'<p class="soft">Measured on replies; names count as one word.</p><div class="grid">{"".join(boxes)}</div>'


def _slop(facts: Facts) -> str:
    if not facts["rows"]:
        return ""
    boxes: list[str] = []
    for kind, found in facts["rows"]["diversity"].items():
        slop = found["slop"]
        worn = {phrase: texts for phrase, _, texts, _ in slop["cliches"]}
        told = f"in {slop['cliche_share']:.1%} of {slop['sampled']:,} different texts"
        listed = bars(worn, slop["sampled"], dict.fromkeys(worn, "c"), limit=14) if worn else '<p class="soft">none of the list</p>'
        boxes.append(box(f"{kind.capitalize()}: worn-out phrases, {told}", listed))
        phrases = [[text, texts, f"{part:.1%}", lift] for text, texts, part, lift in slop["phrases"]]
        boxes.append(box(f"{kind.capitalize()}: word pairs", table(["words", "texts", "share", "× chance"], phrases)))
        ends = [[name, f"{part:.1%}"] for name, part in found["openings"]]
        tails = [[name, f"{part:.1%}"] for name, part in found["endings"]]
        boxes.append(
            box(
                f"{kind.capitalize()}: how it starts and ends", table(["first words", "share"], ends) + table(["last word", "share"], tails)
            )
        )
    note = (
        '<p class="soft">What the text model says again and again, counted on words in dictionary form (Kiwi): phrases of our list of '
        "worn-out Korean, and pairs of words that meet more often than chance would have it (× chance).</p>"
    )
    return f'{note}<div class="flow">{"".join(boxes)}</div>'


def _duplicates(facts: Facts) -> str:
    if not facts["rows"]:
        return ""
    found = facts["rows"]["duplicates"]
    if not found:
        return '<p class="soft">No near duplicates.</p>'
    parts = [
        f"<details><summary>{item['size']} conversations</summary><div class='grid'><blockquote>{escape(item['original'])}</blockquote>"
        f"<blockquote>{escape(item['copy'])}</blockquote></div></details>"
        for item in found
    ]
    return "".join(parts)


def _views(facts: Facts) -> str:
    rows = [
        [name, sides.get("train", {}).get("rows", 0), sides.get("eval", {}).get("rows", 0), sum(side["bytes"] for side in sides.values())]
        for name, sides in facts["views"].items()
    ]
    parts = [box("Files", table(["view", "train", "eval", "bytes"], rows))]
    if facts["stats"]:
        leaks = [[name, count] for name, count in facts["stats"]["leakage"].items()]
        parts.append(box("On both sides of the split", table(["what", "number"], leaks)))
    return f'<div class="flow">{"".join(parts)}</div>'


def _examples(facts: Facts) -> str:
    parts: list[str] = []
    for view in ("sft2", "sft1"):
        for row in facts["examples"].get(view, [])[:2]:
            parts.append(box(view, conversation(row["messages"][:7])))
    pairs = "".join(
        box(
            "preference",
            conversation(row["prompt"][-1:])
            + conversation(row["chosen"])
            + f"<blockquote>{escape(row['rejected'][0]['content'])}</blockquote>",
        )
        for row in facts["examples"].get("preference", [])[:2]
    )
    return f'<div class="flow">{"".join(parts)}{pairs}</div>' if parts or pairs else ""


_SECTIONS: tuple[tuple[str, str, Callable[[Facts], str]], ...] = (
    ("Yield", "yield", _funnel),
    ("Cost", "cost", _cost),
    ("What was left out", "drops", _drops),
    ("Content", "content", _content),
    ("State paths", "paths", _paths),
    ("Diversity", "diversity", _diversity),
    ("Slop", "slop", _slop),
    ("Near duplicates", "duplicates", _duplicates),
    ("Views", "views", _views),
    ("Examples", "examples", _examples),
)
