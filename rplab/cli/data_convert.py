"""`rplab data convert | normalise | preprocess | unite | dedup | translation-set | grpo-set | card`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rplab.cli.data_options import Commands, add_command, add_in_out, add_seed, add_strict, count, report_counts
from rplab.errors import ConfigError


def register(subparsers: Commands) -> None:
    """Add the commands that turn data files into other data files."""
    for register_one in (
        _register_convert,
        _register_normalise,
        _register_preprocess,
        _register_unite,
        _register_dedup,
        _register_translation,
        _register_grpo,
        _register_card,
    ):
        register_one(subparsers)


def _register_convert(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "convert",
        "단발 행 {system,user,assistant_raw}을 {messages}로 바꿉니다.",
        "Turn single-turn rows {system,user,assistant_raw} into {messages}; scene and other fields go to meta.",
        "rplab data convert rows.jsonl messages.jsonl",
        convert,
    )
    add_in_out(parser)
    parser.add_argument("--quarantine", metavar="FILE", type=Path, help="set bad lines aside with their reasons instead of stopping")
    parser.add_argument("--drop-duplicates", action="store_true", help="keep only the first of equal rows")


def convert(arguments: argparse.Namespace) -> int:
    """Run `rplab data convert`."""
    from rplab.dataset.convert import convert_file

    counts = convert_file(arguments.input, arguments.output, quarantine=arguments.quarantine, drop_duplicates=arguments.drop_duplicates)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def _register_normalise(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "normalise",
        "{messages} 행을 정리합니다: 자리표시자, 별표, 화자 표시, 따옴표. 다시 실행해도 바뀌지 않습니다.",
        "Clean {messages} rows: placeholders, stars, speaker labels, quotation marks. Running it again changes nothing.",
        "rplab data normalise messages.jsonl clean.jsonl",
        normalise,
    )
    add_in_out(parser)
    add_seed(parser, "of the name drawn for {{user}} in rows that name no player")


def normalise(arguments: argparse.Namespace) -> int:
    """Run `rplab data normalise`."""
    from rplab.dataset.normalise import normalise_file

    return report_counts(normalise_file(arguments.input, arguments.output, arguments.seed), [arguments.output], as_json=arguments.json)


def _register_preprocess(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "preprocess",
        "{messages} 행을 학습에 맞게 다듬습니다: 이름, 메타 줄, 턴 순서, 토큰 길이. 다시 실행해도 바뀌지 않습니다.",
        "Make {messages} rows fit for training: names, meta lines, order of turns, token length. Running it again changes nothing.",
        "rplab data preprocess messages.jsonl fit.jsonl --max-tokens 4096 --tokenizer models/qwen3-8b",
        preprocess,
    )
    add_in_out(parser)
    parser.add_argument("--max-tokens", "--max-length", type=count, default=4096, help="of a row through the chat template; 0 = no limit")
    parser.add_argument("--tokenizer", metavar="DIR", type=Path, help="model folder with tokenizer.json; needed for the limit")


def preprocess(arguments: argparse.Namespace) -> int:
    """Run `rplab data preprocess`."""
    from rplab.dataset.preprocess import preprocess_file
    from rplab.dataset.token_count import TokenCounter

    if arguments.max_tokens and arguments.tokenizer is None:
        raise ConfigError("--max-tokens needs a tokenizer. Add --tokenizer DIR (a model folder), or --max-tokens 0 for no limit")
    count = TokenCounter(arguments.tokenizer).count_chat if arguments.max_tokens else None
    counts = preprocess_file(arguments.input, arguments.output, max_tokens=arguments.max_tokens, count_tokens=count)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def _register_unite(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "unite",
        "같은 종류의 파일들을 하나로 합칩니다 (같은 행은 한 번만).",
        "Put files of one kind together, equal rows once.",
        "rplab data unite all.jsonl singleturn.jsonl dialogues.jsonl",
        unite,
    )
    parser.add_argument("output", metavar="OUT", type=Path)
    parser.add_argument("inputs", metavar="IN", type=Path, nargs="+")


def unite(arguments: argparse.Namespace) -> int:
    """Run `rplab data unite`."""
    from rplab.dataset.unite import unite_files

    return report_counts(unite_files(arguments.inputs, arguments.output), [arguments.output], as_json=arguments.json)


def _register_dedup(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "dedup",
        "같은 행, 거의 같은 행, (임베딩 서버가 있으면) 뜻이 같은 행을 하나만 남깁니다.",
        "Keep the first of equal rows, near copies and, with an embeddings endpoint, rows that say the same.",
        "rplab data dedup in.jsonl out.jsonl --semantic 0.92 --embeddings bge-m3 --base-url http://127.0.0.1:8080/v1",
        dedup,
    )
    add_in_out(parser)
    near_help = "Jaccard similarity of character 3-grams that makes a near copy; 0 = do not look (default: 0.85)"
    parser.add_argument("--near", type=_share, default=0.85, metavar="0..1", help=near_help)
    parser.add_argument("--semantic", type=_share, metavar="0..1", help="cosine that makes two rows the same; needs --embeddings")
    parser.add_argument("--embeddings", metavar="MODEL", help="embedding model of an OpenAI-compatible endpoint")
    parser.add_argument("--base-url", default="https://api.openai.com/v1", help="its address, up to and including /v1")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable with its key")


def dedup(arguments: argparse.Namespace) -> int:
    """Run `rplab data dedup`."""
    from pydantic import ValidationError

    from rplab.backend.config import EmbeddingsConfig
    from rplab.dataset.dedup import dedup_file

    if (arguments.semantic is None) != (arguments.embeddings is None):
        raise ConfigError("--semantic needs --embeddings MODEL, and --embeddings needs --semantic 0.92 or another cosine. Give both")
    try:
        endpoint = (
            EmbeddingsConfig(model=arguments.embeddings, base_url=arguments.base_url, api_key_env=arguments.api_key_env)
            if arguments.embeddings
            else None
        )
        if endpoint is not None:
            endpoint.endpoint()
    except ValidationError as error:
        raise ConfigError("; ".join(f"--{item['loc'][0]}: {item['msg']}" for item in error.errors()).replace("_", "-")) from None
    counts = dedup_file(arguments.input, arguments.output, near=arguments.near or None, semantic=arguments.semantic, embeddings=endpoint)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def _register_translation(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "translation-set",
        "단발 행이나 대화에서 한국어-일본어 쌍 {instruction,input,output}을 뽑습니다.",
        "Take KO->JA pairs {instruction,input,output} out of single-turn rows or dialogues. "
        "Lines that are no JSON are counted and passed over.",
        "rplab data translation-set rows.jsonl ko-ja.jsonl",
        translation_set,
    )
    add_in_out(parser)
    parser.add_argument("--narration", action="store_true", help="also take narration lines")
    add_strict(parser)


def translation_set(arguments: argparse.Namespace) -> int:
    """Run `rplab data translation-set`."""
    from rplab.dataset.translation_set import make_translation_file

    counts = make_translation_file(arguments.input, arguments.output, narration=arguments.narration, strict=arguments.strict)
    return report_counts(counts, [arguments.output], as_json=arguments.json)


def _register_grpo(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "grpo-set",
        "대화 파일에서 GRPO용 프롬프트와 기준 답을 만들고 시나리오 단위로 나눕니다.",
        "Make GRPO prompts and references from dialogues and split them by scenario. Lines that are no JSON are counted and passed over.",
        "rplab data grpo-set --inputs messages.jsonl dialogues.jsonl --out-train train.jsonl --out-eval eval.jsonl --eval-ratio .05",
        grpo_set,
    )
    flag = parser.add_argument
    flag("--inputs", metavar="FILE", type=Path, nargs="+", required=True)
    flag("--out-train", "--out_train", metavar="FILE", type=Path, required=True)
    flag("--out-eval", "--out_eval", metavar="FILE", type=Path, required=True)
    flag("--eval-ratio", "--eval_ratio", type=_ratio, default=0.05, help="share to hold out, 0 <= ratio < 1 (default .05)")
    add_seed(parser)
    flag("--max-context-messages", "--max_context_messages", type=count, default=12, help="messages of a prompt; 0 = no limit")
    flag("--min-prompt-chars", "--min_prompt_chars", type=count, default=8)
    flag("--min-reference-chars", "--min_reference_chars", type=count, default=4)
    flag("--tokenizer", "--tokenizer-path", "--tokenizer_path", metavar="DIR", type=Path, help="model folder; needed for token limits")
    flag("--max-prompt-tokens", "--max_prompt_tokens", type=count, default=0, help="0 = no limit")
    flag("--max-reference-tokens", "--max_reference_tokens", type=count, default=0, help="0 = no limit")
    add_strict(parser)


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 <= ratio < 1")
    return value


def grpo_set(arguments: argparse.Namespace) -> int:
    """Run `rplab data grpo-set`."""
    from rplab.dataset.grpo_set import GrpoLimits, make_grpo_files
    from rplab.dataset.token_count import TokenCounter

    if (arguments.max_prompt_tokens or arguments.max_reference_tokens) and arguments.tokenizer is None:
        raise ConfigError("a token limit needs a tokenizer. Add --tokenizer DIR (a model folder with tokenizer.json)")
    if arguments.out_train.resolve() == arguments.out_eval.resolve():
        raise ConfigError(f"--out-train and --out-eval are both {arguments.out_train}. Name two files")
    counts = make_grpo_files(
        arguments.inputs,
        arguments.out_train,
        arguments.out_eval,
        eval_ratio=arguments.eval_ratio,
        seed=arguments.seed,
        limits=GrpoLimits(
            max_context_messages=arguments.max_context_messages,
            min_prompt_chars=arguments.min_prompt_chars,
            min_reference_chars=arguments.min_reference_chars,
            max_prompt_tokens=arguments.max_prompt_tokens,
            max_reference_tokens=arguments.max_reference_tokens,
        ),
        tokens=TokenCounter(arguments.tokenizer) if arguments.tokenizer else None,
        strict=arguments.strict,
    )
    return report_counts(counts, [arguments.out_train, arguments.out_eval], as_json=arguments.json)


def _register_card(subparsers: Commands) -> None:
    parser = add_command(
        subparsers,
        "card",
        "데이터셋 폴더의 데이터 카드를 만듭니다.",
        "Make the data card of a data-set folder (views/, rows.parquet) from its files.",
        "rplab data card store/latest/dataset --html card.html",
        card,
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the Markdown card instead of printing it")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write it as one static HTML page")


def card(arguments: argparse.Namespace) -> int:
    """Run `rplab data card`."""
    from rplab.dataset.card import describe, render_card
    from rplab.dataset.html import render_report
    from rplab.jsonl import write_text

    facts = describe(arguments.directory)
    text = render_card(facts)
    if arguments.html:
        write_text(arguments.html, render_report(facts))
    if arguments.out:
        write_text(arguments.out, text)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False))
    elif not arguments.out:
        sys.stdout.write(text)
    return 0
