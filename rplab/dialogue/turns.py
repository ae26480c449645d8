"""The two sides of a turn: what each is told, and what the embedded backend gets as slots.

Everything that the planner knows reaches the prompt: state and action with their descriptions, signals, gate, what is
to be avoided, and, on another attempt, what was wrong with the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rplab.backend.base import ChatRequest, Message, SignalSlots, TurnSlots
from rplab.character import Person
from rplab.dialogue.pacing import DialogueState, Facts, Intent, gate_of, mode_of, must_progress, scene_step
from rplab.dialogue.pack import Pack
from rplab.dialogue.pack_tables import Decoding, Side
from rplab.dialogue.prompts import describe_signals, fill, squeeze
from rplab.dialogue.scenario_file import Scenario
from rplab.dialogue.turn import TurnContext
from rplab.seeding import derive_seed

Speaker = Literal["player", "protagonist"]


@dataclass
class Talk:
    """What has been said so far in one dialogue."""

    scenario: Scenario
    pack: Pack
    facts: Facts
    root_seed: int
    player_turns: list[str] = field(default_factory=list[str])
    replies: list[str] = field(default_factory=list[str])

    @property
    def protagonist(self) -> Person:
        """Who the model plays."""
        return self.scenario.protagonist

    @property
    def player(self) -> Person:
        """Who the user is."""
        return self.scenario.player

    def said(self) -> list[tuple[Speaker, str]]:
        """Return all turns, oldest first, the book's latest interaction before them."""
        draft = self.scenario.draft
        turns: list[tuple[Speaker, str]] = [("player", draft.last_player_turn), ("protagonist", draft.last_protagonist_turn)]
        for index, text in enumerate(self.player_turns):
            turns.append(("player", text))
            if index < len(self.replies):
                turns.append(("protagonist", self.replies[index]))
        return turns

    def recent(self) -> list[tuple[Speaker, str]]:
        """Return the turns that prompts show."""
        return self.said()[-2 * self.pack.pacing.history :]

    def history(self) -> str:
        """Return the recent turns as text."""
        names = {"player": self.player.name, "protagonist": self.protagonist.name}
        return "\n".join(f"[{names[speaker]}] {text}" for speaker, text in self.recent())


def side_of(speaker: Speaker, state: DialogueState) -> Side:
    """Return which checks a turn is held to."""
    if speaker == "player":
        return "user"
    return "crisis" if mode_of(state) == "crisis" else "asst"


def context_of(talk: Talk, speaker: Speaker, state: DialogueState) -> TurnContext:
    """Return what a turn is checked against."""
    by_player = tuple(text for who, text in talk.said() if who == "player")
    by_protagonist = tuple(text for who, text in talk.said() if who == "protagonist")
    own, other = (by_player, by_protagonist) if speaker == "player" else (by_protagonist, by_player)
    register = None if speaker == "player" else talk.scenario.register_
    return TurnContext(side_of(speaker, state), talk.protagonist.name, talk.player.name, register, other=other, own=own)


def asks_for_scene(talk: Talk, text: str) -> bool:
    """Return whether a player's turn asks for the genre's staged scene."""
    return any(cue in text for cue in talk.pack.genres[talk.facts.genre].scene.cues)


def build_turn(
    talk: Talk, speaker: Speaker, state: DialogueState, intent: Intent, attempt: int, reason: str, *, avoid: bool = False
) -> ChatRequest:
    """Return the request for one attempt at a turn.

    Args:
        talk: What was said.
        speaker: Whose turn it is.
        state: Where the dialogue stands.
        intent: Direction of the turn.
        attempt: 0-based; each has its own key and seed.
        reason: What was wrong with the last attempt, in the prompt's language; empty on the first.
        avoid: Whether the staged scene was asked for while it is not allowed.
    """
    scenario, pack = talk.scenario, talk.pack
    guide = _guide(talk, speaker, state, intent, reason, avoid=avoid)
    scene = pack.genres[talk.facts.genre].scene
    return ChatRequest(
        key=f"{scenario.id}/t{state.turn}/{speaker}/a{attempt}",
        messages=_player_messages(talk, guide) if speaker == "player" else _protagonist_messages(talk, guide),
        seed=derive_seed(talk.root_seed, "dialogue", scenario.id, state.turn, speaker, attempt),
        sampling=_decoding(pack, speaker, state).sampling(),
        slots=TurnSlots(
            speaker=speaker,
            protagonist=talk.protagonist,
            player=talk.player,
            register=scenario.register_,
            genre=scenario.genre,
            era=scenario.era,
            place=scenario.place,
            relation=state.relation,
            state=state.relation_state,
            action=state.action_state,
            intent=intent,
            turn=state.turn,
            recent=tuple(text for _, text in talk.recent()),
            avoid=scene.name if avoid and speaker == "protagonist" else "",
        ),
    )


def _decoding(pack: Pack, speaker: Speaker, state: DialogueState) -> Decoding:
    if speaker == "player":
        return pack.decoding.user
    mode = mode_of(state)
    return pack.decoding.crisis if mode == "crisis" else pack.decoding.staged if mode == "staged" else pack.decoding.protagonist


def _guide(talk: Talk, speaker: Speaker, state: DialogueState, intent: Intent, reason: str, *, avoid: bool) -> str:
    """Return the guide of a turn: the pack's template with everything the planner knows."""
    pack, prompts = talk.pack, talk.pack.prompts
    scene = pack.genres[talk.facts.genre].scene
    mode = mode_of(state)
    progress = prompts.progress if must_progress(pack, talk.facts, state) else ""
    if speaker == "player" and talk.player_turns and "?" in talk.player_turns[-1]:
        progress += prompts.no_question
    return fill(
        prompts.player if speaker == "player" else prompts.protagonist,
        history=talk.history(),
        state=state.relation_state,
        state_description=pack.relation_machine.states[state.relation_state].description,
        action=pack.action_machine.states[state.action_state].flags.get("action_hint", state.action_state),
        action_description=pack.action_machine.states[state.action_state].description,
        relation=state.relation,
        intent=getattr(pack.intent, intent).text,
        signals=_signal_line(pack, state),
        gate=_gate_line(talk, state),
        mode=fill(prompts.modes[mode], scene=scene.name, step=max(1, scene_step(state))),
        avoid=fill(prompts.avoid[speaker], scene=scene.name, decline=scene.decline) if avoid else "",
        progress=progress,
        fix=fill(prompts.fix, reason=reason) if reason else "",
        protagonist=talk.protagonist.name,
        player=talk.player.name,
        register=talk.scenario.register_.value,
    )


def _signal_line(pack: Pack, state: DialogueState) -> str:
    labels = {name: signal.label for name, signal in pack.signals.items()}
    return describe_signals(labels, state.signals, {name: signal.high for name, signal in pack.signals.items()})


def _gate_line(talk: Talk, state: DialogueState) -> str:
    scene = talk.pack.genres[talk.facts.genre].scene
    line = fill(talk.pack.prompts.gates[gate_of(talk.pack, talk.facts, state)], condition=talk.facts.gate_condition)
    return f"{scene.name} {line}"


def _player_messages(talk: Talk, guide: str) -> tuple[Message, ...]:
    scenario = talk.scenario
    system = fill(
        talk.pack.prompts.player_system,
        player=talk.player.name,
        player_age=talk.player.age,
        protagonist=talk.protagonist.name,
        protagonist_age=talk.protagonist.age,
        era=scenario.era,
        place=scenario.place,
        event=scenario.draft.ongoing_event,
        task=scenario.draft.pending_task,
    )
    return ({"role": "system", "content": system}, {"role": "user", "content": squeeze(guide)})


def _protagonist_messages(talk: Talk, guide: str) -> tuple[Message, ...]:
    """Return book, recent exchanges, and the player's turn with the guide below it: roles alternate as models expect."""
    messages: list[Message] = [{"role": "system", "content": talk.scenario.book}]
    first = max(0, len(talk.replies) - talk.pack.pacing.history)
    for index in range(first, len(talk.replies)):
        messages.append({"role": "user", "content": talk.player_turns[index]})
        messages.append({"role": "assistant", "content": talk.replies[index]})
    messages.append({"role": "user", "content": f"{talk.player_turns[-1]}\n\n{squeeze(guide)}"})
    return tuple(messages)


def build_judgement(talk: Talk, state: DialogueState, intent: Intent, attempt: int, reason: str) -> ChatRequest:
    """Return the request that asks a model to read the signals off the exchange just finished."""
    pack = talk.pack
    ranges = {name: f"{signal.low}-{signal.high}" for name, signal in pack.signals.items()}
    task = fill(
        pack.prompts.signals,
        history=talk.history(),
        genre=talk.facts.genre,
        state=state.relation_state,
        action=state.action_state,
        intent=getattr(pack.intent, intent).text,
        signals=_signal_line(pack, state),
        ranges=", ".join(f"{name} {span}" for name, span in ranges.items()),
        fix=fill(pack.prompts.fix, reason=reason) if reason else "",
    )
    return ChatRequest(
        key=f"{talk.scenario.id}/t{state.turn}/signals/a{attempt}",
        messages=({"role": "user", "content": squeeze(task)},),
        seed=derive_seed(talk.root_seed, "dialogue", talk.scenario.id, state.turn, "signals", attempt),
        sampling=pack.decoding.signals.sampling(),
        schema={
            "type": "object",
            "properties": {
                name: {"type": "integer", "minimum": signal.low, "maximum": signal.high} for name, signal in pack.signals.items()
            },
            "required": list(pack.signals),
            "additionalProperties": False,
        },
        slots=SignalSlots(
            genre=talk.facts.genre,
            relation=state.relation,
            state=state.relation_state,
            action=state.action_state,
            intent=intent,
            signals=dict(state.signals),
            recent=tuple(text for _, text in talk.recent()),
        ),
    )
