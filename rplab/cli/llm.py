"""`rplab llm`: each training stage alone, with plain folders and files instead of the store."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rplab.cli import llm_chat, llm_export, llm_fetch
from rplab.errors import ConfigError
from rplab.l10n import tr

if TYPE_CHECKING:
    from rplab.stage import Stage, StageConfig

_STAGES = {
    "sft1": "rplab.llm.sft:train_sft",
    "sft2": "rplab.llm.sft:train_sft",
    "merge": "rplab.llm.merge:merge_adapter",
    "grpo": "rplab.llm.grpo:train_grpo",
    "evaluate": "rplab.llm.evaluate:evaluate_models",
}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab llm sft|merge|grpo|eval|chat|fetch|gguf`."""
    group = commands.add_parser(
        "llm",
        help=tr("언어 모델 학습과 평가", "train, merge, evaluate and try the language model"),
        epilog="example: rplab llm sft --base store/latest/base --dataset store/latest/dataset --out my_adapter",
    )
    llm = group.add_subparsers(title="llm commands", metavar="COMMAND", required=True)
    _add_sft(llm)
    _add_merge(llm)
    _add_grpo(llm)
    _add_eval(llm)
    llm_chat.register(llm)
    llm_fetch.register(llm)
    llm_export.register(llm)


def _add_sft(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser(
        "sft",
        help=tr("지도 미세 조정 (QLoRA)", "supervised fine-tuning (QLoRA)"),
        epilog="example: rplab llm sft --base models/qwen3-4b --train rows.jsonl --eval held.jsonl --out adapter1 --profile single-16gb",
    )
    parser.add_argument("--base", type=Path, required=True, help="model folder that is tuned")
    parser.add_argument("--view", choices=("sft1", "sft2"), default="sft1", help="single-turn or multi-turn view (default: sft1)")
    parser.add_argument("--adapter", type=Path, help="adapter to go on with (stage 2); trained on the same base")
    _add_data(parser)
    _add_common(parser, needs_out=False)
    _add_training(parser)
    parser.set_defaults(handler=_sft)


def _add_merge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser(
        "merge",
        help=tr("어댑터를 모델에 병합하고 검증", "fold an adapter into its base, and check that it is the same model"),
        epilog="example: rplab llm merge --base models/qwen3-4b --adapter adapter2 --out merged",
    )
    parser.add_argument("--base", type=Path, required=True, help="model folder that the adapter was trained on")
    adapter_help = "output of `rplab llm sft` or `rplab llm grpo`; given twice, they are merged one after the other"
    parser.add_argument("--adapter", type=Path, action="append", required=True, help=adapter_help)
    _add_common(parser)
    parser.set_defaults(handler=_merge)


def _add_grpo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser(
        "grpo",
        help=tr("보상으로 강화 학습 (GRPO)", "reinforcement learning with rewards (GRPO)"),
        epilog="example: rplab llm grpo --model merged --dataset store/latest/dataset --out adapter3 --set max_steps=100",
    )
    parser.add_argument("--model", type=Path, required=True, help="merged model folder")
    parser.add_argument("--base", type=Path, help="base of the stage-2 adapter, for start: adapter (small GPUs)")
    parser.add_argument("--adapter", type=Path, help="stage-2 adapter, for start: adapter")
    _add_data(parser)
    _add_common(parser, needs_out=False)
    _add_training(parser)
    parser.set_defaults(handler=_grpo)


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser(
        "eval",
        help=tr("모델 비교 평가", "compare models on held-out prompts"),
        epilog="example: rplab llm eval --base base --sft merged --grpo merged3 --dataset store/latest/dataset --out evaluation",
    )
    for name in ("base", "sft", "grpo"):
        parser.add_argument(f"--{name}", type=Path, help=f"model folder compared as `{name}`")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder (holds views/)")
    _add_common(parser)
    parser.set_defaults(handler=_evaluate)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, help="dataset folder (holds views/), for example store/latest/dataset")
    parser.add_argument("--train", type=Path, help="JSON-lines file of training rows, instead of --dataset")
    parser.add_argument("--eval", dest="held", type=Path, help="JSON-lines file of held-out rows, with --train")


def _add_common(parser: argparse.ArgumentParser, *, needs_out: bool = True) -> None:
    parser.add_argument("--out", type=Path, required=needs_out, help="new folder for the result; an interrupted run goes on")
    parser.add_argument("--profile", help="take the settings from this profile (default: the built-in ones)")
    set_help = "change one setting of this stage, for example optimiser.learning_rate=1e-5"
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V", help=set_help)
    parser.add_argument("--json", action="store_true", help="print the stats as one JSON object")


def _add_training(parser: argparse.ArgumentParser) -> None:
    preset_help = "settings for a kind of GPU: predecessor, single-16gb, single-24gb, h200 (the same as --profile NAME)"
    parser.add_argument("--preset", help=preset_help)
    dry_help = "only report tokens, packing, label mask, memory, steps and time; no weights needed"
    parser.add_argument("--dry-run", action="store_true", help=dry_help)
    parser.add_argument("--processes", type=int, default=1, help="training processes, one a GPU (default: 1)")


def _sft(arguments: argparse.Namespace) -> int:
    inputs = {"base": arguments.base, "dataset": _dataset(arguments, arguments.view)}
    if arguments.adapter is not None:
        inputs["adapter"] = arguments.adapter
    if arguments.dry_run:
        return _dry_run(arguments, arguments.view, inputs)
    return _run(arguments, arguments.view, inputs)


def _merge(arguments: argparse.Namespace) -> int:
    def last(base: Path, adapter: Path) -> int:
        return _run(arguments, "merge", {"base": base, "adapter": adapter})

    return llm_export.merge_stack(arguments.base, arguments.adapter, arguments.out, last)


def _grpo(arguments: argparse.Namespace) -> int:
    inputs = {"model": arguments.model, "dataset": _dataset(arguments, "grpo")}
    inputs |= {name: path for name in ("base", "adapter") if (path := getattr(arguments, name)) is not None}
    return _dry_run(arguments, "grpo", inputs) if arguments.dry_run else _run(arguments, "grpo", inputs)


def _dry_run(arguments: argparse.Namespace, name: str, inputs: dict[str, Path]) -> int:
    """Print what a stage would do."""
    from rplab.llm.config import GrpoConfig, SftConfig
    from rplab.llm.dry_run import plan_grpo, plan_sft
    from rplab.llm.standalone import prepare_environment
    from rplab.stage import Stage

    prepare_environment()
    config = _config(arguments, name, Stage(name, 1, _STAGES[name], _config_type(name), isolate=True, gpu=True))
    if isinstance(config, SftConfig):
        plan = plan_sft(config, inputs["base"], inputs["dataset"], inputs.get("adapter"), processes=arguments.processes)
    else:
        assert isinstance(config, GrpoConfig)
        plan = plan_grpo(config, inputs["model"], inputs["dataset"])
    _show(arguments, {"stage": name, "dry_run": True}, plan)
    return 0


def _show(arguments: argparse.Namespace, head: dict[str, Any], stats: dict[str, Any]) -> None:
    """Print stats as a table, or everything as JSON."""
    if arguments.json:
        print(json.dumps({**head, "stats": stats}, ensure_ascii=False))
        return
    for key, value in stats.items():
        print(f"{key:<22} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _evaluate(arguments: argparse.Namespace) -> int:
    models = {name: path for name in ("base", "sft", "grpo") if (path := getattr(arguments, name)) is not None}
    if not models:
        raise ConfigError("nothing to evaluate: give at least one of --base, --sft, --grpo")
    return _run(arguments, "evaluate", {**models, "dataset": arguments.dataset})


def _dataset(arguments: argparse.Namespace, view: str) -> Path:
    """Return the dataset folder; two plain files become one with a single view."""
    if arguments.dataset is not None:
        if arguments.train or arguments.held:
            raise ConfigError("give either --dataset or --train with --eval, not both")
        return Path(arguments.dataset)
    if arguments.train is None or arguments.held is None:
        raise ConfigError("no data: give --dataset FOLDER, or --train FILE with --eval FILE")
    out: Path = arguments.out or Path("dry_run")
    folder = out.with_name(f".{out.name}.data")
    for side, path in (("train", arguments.train), ("eval", arguments.held)):
        link = folder / "views" / view / f"{side}.jsonl"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path(path).absolute())
    return folder


def _run(arguments: argparse.Namespace, name: str, inputs: dict[str, Path]) -> int:
    """Run a stage function into `--out` and print what it counted."""
    from rplab.cli.run import ProgressLine, stop_on_sigterm
    from rplab.llm.standalone import prepare_environment, run_standalone
    from rplab.stage import Stage

    stage = Stage(name, 1, _STAGES[name], _config_type(name), isolate=True, gpu=True)
    config = _config(arguments, name, stage)
    prepare_environment()
    if arguments.out is None:
        raise ConfigError("no place for the result: give --out FOLDER (or --dry-run to see what would happen)")
    show = ProgressLine()
    function = stage.load()
    if getattr(arguments, "processes", 1) > 1:
        from rplab.llm.distributed import parallel

        function = parallel(_STAGES[name], arguments.processes)
    stats = run_standalone(function, config, inputs, arguments.out, report=lambda progress: show(name, progress), stop=stop_on_sigterm())
    show.clear()
    _show(arguments, {"stage": name, "out": str(arguments.out)}, stats)
    if not arguments.json:
        print(tr(f"결과: {arguments.out}", f"result: {arguments.out}"), file=sys.stderr)
    return 0


def _config_type(name: str) -> type[StageConfig]:
    from rplab.llm.config import GrpoConfig, MergeConfig, SftConfig
    from rplab.llm.eval_config import EvaluateConfig

    table: dict[str, type[StageConfig]] = {
        "sft1": SftConfig, "sft2": SftConfig, "merge": MergeConfig, "grpo": GrpoConfig, "evaluate": EvaluateConfig,
    }  # fmt: skip
    return table[name]


def _config(arguments: argparse.Namespace, name: str, stage: Stage) -> StageConfig:
    """Return the stage's settings: built-in or from a profile, then changed by `--set`."""
    from pydantic import ValidationError

    values: dict[str, Any] = {"view": name} if name in ("sft1", "sft2") else {}
    where = "--set"
    if getattr(arguments, "preset", None) is not None:
        if arguments.profile is not None:
            raise ConfigError("give either --preset or --profile, not both")
        arguments.profile = arguments.preset
    if arguments.profile is not None:
        from rplab.profile import load_profile

        profile = load_profile(arguments.profile)
        values = profile.with_shared(getattr(profile.llm, name)).model_dump(exclude_unset=True) | values
        where = f"profile {arguments.profile}, --set"
    for override in arguments.overrides:
        _apply(values, override)
    try:
        return stage.config_type.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{where}: {problems}. Settings of this stage: {', '.join(stage.config_type.model_fields)}") from None


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: write key=value, for example max_steps=100")
    *parents, last = path.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {parent} is a single value, not a section")
        values = inner
    values[last] = _number_or_text(text)


def _number_or_text(text: str) -> Any:
    """Read a value as YAML; `1e-5`, which YAML takes for text, is a number here."""
    import yaml

    try:
        return float(text) if "e" in text.lower() and "." not in text else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text
