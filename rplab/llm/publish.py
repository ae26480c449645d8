"""Stage `character`: name the models that passed as the character's, so that play finds them.

Models are not copied: `character.json` holds the card and the two artefacts' stage and key; play looks them up in the
store. A model whose evaluation failed a gate is refused here, and only here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rplab.errors import ArtifactError, ConfigError, GateError
from rplab.jsonl import JsonValue, write_text
from rplab.llm.eval_config import PublishConfig
from rplab.llm.model_card import add_metrics
from rplab.stage import StageContext, Stats

CHARACTER_FILE = "character.json"
SCHEMA_VERSION = 1
_EVALUATIONS = ("evaluate", "translator_eval")


def publish_character(config: PublishConfig, inputs: Mapping[str, Path], context: StageContext) -> Stats:
    """Write character.json, or refuse.

    Args:
        config: The card.
        inputs: `model`, `translator` (artefacts with model/), `evaluate`, `translator_eval` (artefacts with evaluation.json),
            and `voice` (artefact with voice/) when the character has one of its own.
        context: Writes character.json, report.md and model_card.md (the model's card with what the evaluation measured).

    Raises:
        GateError: An evaluation did not pass; lists every failed gate with its value and what was wanted.
        ConfigError: No card.
        ArtifactError: An evaluation or model is not there.
    """
    if config.card is None:
        raise ConfigError("character: there is no card. Set `card: saya` (or the path of a card file) at the top of the profile")
    evaluations = {name: _read_evaluation(inputs[name]) for name in _EVALUATIONS}
    failed = [(name, gate) for name, evaluation in evaluations.items() for gate in evaluation["failed"]]
    if failed or not all(evaluation["passed"] for evaluation in evaluations.values()):
        raise GateError(_refusal(failed, inputs))
    models = {name: _reference(inputs[name]) for name in ("model", "translator")}
    gates = {name: _headline(name, evaluation) for name, evaluation in evaluations.items()}
    character = {
        "schema_version": SCHEMA_VERSION,
        "card": config.card.model_dump(mode="json", by_alias=True),
        "pack": config.pack,
        "play": config.play or {},
        "rp_model": models["model"],
        "translator": models["translator"],
        "voice": _voice_reference(inputs["voice"]) if "voice" in inputs else None,
        "gates": gates,
    }
    write_text(context.out / CHARACTER_FILE, json.dumps(character, ensure_ascii=False, indent=1) + "\n")
    write_text(context.out / "report.md", _report(character))
    evaluation = evaluations["evaluate"]
    write_text(context.out / "model_card.md", add_metrics(inputs["model"] / "model", evaluation, evaluation["models"]))
    context.progress(1, 1, f"{config.card.name} can be played")
    return {
        "character": config.card.name,
        "rp_model": f"{models['model']['stage']}/{models['model']['key']}",
        "translator": f"{models['translator']['stage']}/{models['translator']['key']}",
        "gates": dict[str, JsonValue](gates),
    }


def _read_evaluation(artefact: Path) -> dict[str, Any]:
    path = artefact / "evaluation.json"
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(evaluation["passed"], bool) and isinstance(evaluation["failed"], list):
            return evaluation
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ArtifactError(f"{path}: no evaluation. Run `rplab run --from {artefact.parent.name}` to make it again")


def _refusal(failed: list[tuple[str, Mapping[str, Any]]], inputs: Mapping[str, Path]) -> str:
    lines = [f"  {gate['gate']} is {gate['value']}, wanted {gate['wanted']} ({gate['why']})" for _, gate in failed]
    reports = ", ".join(str(inputs[name] / "report.md") for name in dict.fromkeys(name for name, _ in failed))
    return "\n".join(
        [
            f"the character is not published, {len(failed)} gate{'s' if len(failed) != 1 else ''} failed:",
            *lines,
            f"Read {reports or 'the evaluation reports'}; then train longer or on more data, or change the gates in the profile "
            "(llm.evaluate.gates, llm.translator_eval.gates)",
        ]
    )


def _reference(artefact: Path) -> dict[str, str]:
    """Return stage and key of an artefact from its place in the store, `<store>/<stage>/<key>`."""
    if not (artefact / "model" / "config.json").is_file():
        raise ArtifactError(f"{artefact / 'model'}: no model. Run `rplab run --from {artefact.parent.name}` to make it again")
    return {"stage": artefact.parent.name, "key": artefact.name}


def _voice_reference(artefact: Path) -> dict[str, str]:
    if not (artefact / "voice" / "config.json").is_file():
        raise ArtifactError(f"{artefact / 'voice'}: no voice. Run `rplab run --from {artefact.parent.name}` to make it again")
    return {"stage": artefact.parent.name, "key": artefact.name}


def _headline(name: str, evaluation: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the numbers that say most about an evaluation."""
    if name == "translator_eval":
        return {key: evaluation[key] for key in ("passed", "chrfpp", "stop_rate", "hangul_rate")}
    last, numbers = list(evaluation["models"].items())[-1]
    rates = numbers["rates"]
    rewards: dict[str, JsonValue] = {model: values["reward"]["mean"] for model, values in evaluation["models"].items()}
    return {"passed": evaluation["passed"], "model": last, "format_rate": rates["format"], "eos_rate": rates["eos"], "reward": rewards}


def _report(character: Mapping[str, Any]) -> str:
    card, gates = character["card"], character["gates"]
    rewards = " → ".join(f"{name} {value:.3f}" for name, value in gates["evaluate"]["reward"].items())
    return "\n".join(
        [
            f"# {card['name']} can be played",
            "",
            f"- role-play model: `{character['rp_model']['stage']}/{character['rp_model']['key']}`",
            f"- translator: `{character['translator']['stage']}/{character['translator']['key']}`",
            f"- voice: {'`{stage}/{key}`'.format(**character['voice']) if character['voice'] else 'the one that `play` names'}",
            f"- mean reward: {rewards}",
            f"- right format: {gates['evaluate']['format_rate']:.0%}",
            f"- translator chrF++: {gates['translator_eval']['chrfpp']:.1f}",
            "",
            "Play: `rplab play`, or one turn: `rplab play --text '오늘 어땠어?' --wav out.wav --json`",
            "",
        ]
    )
