"""`rplab store ls|show|diff|gc`: looking into the store."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rplab.l10n import tr


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab store`."""
    parser = commands.add_parser(
        "store", help=tr("저장소 보기와 정리", "look into the store, clean it"), epilog="example: rplab store show dataset"
    )
    verbs = parser.add_subparsers(title="store commands", metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", type=Path, default=Path("store"), help="where artefacts live (default: ./store)")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    ls = verbs.add_parser("ls", parents=[common], help="list artefacts", epilog="example: rplab store ls")
    ls.add_argument("--verify", action="store_true", help="check every file against its sha256")
    ls.set_defaults(handler=_ls)
    show = verbs.add_parser("show", parents=[common], help="show a manifest", epilog="example: rplab store show grpo")
    show.add_argument("artefact", help="STAGE, STAGE/KEY or the start of a key")
    show.set_defaults(handler=_show)
    diff = verbs.add_parser("diff", parents=[common], help="compare two artefacts", epilog="example: rplab store diff sft1/1a2b sft1")
    diff.add_argument("first")
    diff.add_argument("second")
    diff.set_defaults(handler=_diff)
    gc = verbs.add_parser("gc", parents=[common], help="delete what nothing needs", epilog="example: rplab store gc --yes")
    gc.add_argument("--yes", action="store_true", help="delete; without it the list is only shown")
    gc.set_defaults(handler=_gc)


def _ls(arguments: argparse.Namespace) -> int:
    from rplab.store import check, entries

    rows: list[dict[str, object]] = []
    for entry in entries(arguments.store):
        started, wall_s = (entry.manifest.started_utc, entry.manifest.wall_s) if entry.manifest else ("-", 0.0)
        state = check(entry) if arguments.verify else "ok" if entry.manifest else "damaged manifest"
        found = {"stage": entry.stage, "key": entry.key, "latest": entry.latest, "started": started, "wall_s": wall_s}
        rows.append({**found, "bytes": entry.size, "state": state})
        if not arguments.json:
            mark, size = "*" if entry.latest else " ", f"{entry.size / 2**20:>9.2f} MiB"
            print(f"{mark} {entry.stage:<16} {entry.key}  {started[:19]:<19} {wall_s:>8.1f} s {size}  {state}")
    if arguments.json:
        print(json.dumps(rows))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from rplab.store import check, find

    entry = find(arguments.store, arguments.artefact)
    if entry.manifest is None:
        print(f"{entry.path}: {check(entry)}")
        return 1
    print(entry.manifest.dumps(), end="")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from rplab.store import compare, find

    lines = compare(find(arguments.store, arguments.first), find(arguments.store, arguments.second))
    print(json.dumps(lines, ensure_ascii=False) if arguments.json else "\n".join(lines) or tr("같습니다", "no difference"))
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from rplab.store import collect, garbage

    paths = garbage(arguments.store)
    freed = collect(paths) if arguments.yes else 0
    if arguments.json:
        print(json.dumps({"paths": [str(path) for path in paths], "deleted": arguments.yes, "freed_bytes": freed}))
        return 0
    for path in paths:
        print(path)
    if arguments.yes:
        print(tr(f"{len(paths)}개 삭제, {freed / 2**20:.1f} MiB 확보", f"deleted {len(paths)}, freed {freed / 2**20:.1f} MiB"))
    else:
        print(tr(f"{len(paths)}개를 지울 수 있습니다 (--yes 로 삭제)", f"{len(paths)} can go (delete them with --yes)"))
    return 0
