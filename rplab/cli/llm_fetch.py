"""`rplab llm fetch`: bring a base model here, pinned and verified."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rplab.errors import ConfigError
from rplab.l10n import tr


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab llm fetch`."""
    parser = commands.add_parser(
        "fetch",
        help=tr("기반 모델 내려받기", "fetch a base model, pinned and verified"),
        epilog="example: rplab llm fetch qwen3-4b-instruct-2507    then: llm.base.source: models/qwen3-4b-instruct-2507 in the profile",
    )
    parser.add_argument("name", nargs="?", help="name of the list, or owner/name on the hub")
    parser.add_argument("--list", action="store_true", dest="listing", help="show the models that are known by name")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where models live, with fetch.lock.json (default: ./models)")
    parser.add_argument("--revision", help="another commit, tag or branch than the pinned one; kept beside it")
    parser.add_argument("--json", action="store_true", help="print {folder, repo, revision, files, bytes, pinned_before}")
    parser.set_defaults(handler=_fetch)


def _fetch(arguments: argparse.Namespace) -> int:
    if arguments.listing:
        return _list(arguments.json)
    if arguments.name is None:
        raise ConfigError("which model? Give a name (`rplab llm fetch --list` shows them) or owner/name")
    from rplab.llm.fetch import fetch_model

    show = sys.stderr.isatty()

    def report(done: int, total: int, file: str) -> None:
        if show:
            print(f"\r  … {file[:40]:<40} {done / 1e6:>9.1f} / {total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    fetched = fetch_model(arguments.name, arguments.models, revision=arguments.revision, report=report)
    if show:
        print(file=sys.stderr)
    if arguments.json:
        print(json.dumps(fetched.as_json(), ensure_ascii=False))
        return 0
    print(f"{fetched.folder}  {fetched.repo}@{fetched.commit[:12]}  {fetched.num_bytes / 1e9:.2f} GB")
    if not fetched.pinned:
        print(
            tr(
                f"처음 받은 파일입니다. sha256을 {arguments.models}/fetch.lock.json에 고정했습니다. 다음부터는 이 값과 같아야 합니다.",
                f"Fetched for the first time: trusted as it came, and pinned by sha256 in {arguments.models}/fetch.lock.json from now on.",
            )
        )
    return 0


def _list(as_json: bool) -> int:
    from rplab.llm.model_manifest import known_models

    models = known_models()
    if as_json:
        print(json.dumps({name: model.model_dump() for name, model in models.items()}, ensure_ascii=False))
        return 0
    for name, model in models.items():
        pinned = model.revision[:12] if model.revision else tr("처음 받을 때 고정", "pinned on first use")
        print(f"{name:<26} {model.size_gb or 0:>5.1f} GB  {model.licence:<11} {pinned:<20} {model.use}")
    return 0
