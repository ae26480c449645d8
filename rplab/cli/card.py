"""`rplab card import|export`: Character Card V2/V3 files in and out."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rplab.errors import ConfigError
from rplab.l10n import tr


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """Add `rplab card`."""
    text = tr("캐릭터 카드 가져오기와 내보내기 (Character Card V2/V3)", "import and export character cards (Character Card V2/V3)")
    parser = subparsers.add_parser("card", help=text, description=text, epilog="example: rplab card import saya.png saya.yaml --age 24")
    verbs = parser.add_subparsers(title="card commands", metavar="COMMAND", required=True)
    text = tr("JSON, PNG, charx 카드를 YAML 카드로", "turn a JSON, PNG or charx card into a YAML card")
    get = verbs.add_parser(
        "import", help=text, description=text, epilog="example: rplab card import saya.png saya.yaml --age 24 --name-ja サヤ"
    )
    get.add_argument("input", metavar="IN", type=Path, help=".json, .png or .charx; untrusted: nothing of it is executed")
    get.add_argument("output", metavar="OUT.yaml", type=Path)
    for name in ("name", "name-ja", "gender", "role", "world", "situation", "relationship"):
        get.add_argument(f"--{name}", metavar="TEXT", help="instead of what the card says")
    get.add_argument("--register", choices=("반말", "존댓말"), help="speech level towards the player")
    get.add_argument("--age", type=int, metavar="YEARS", help="adult age of the character; needed when the card states none")
    get.add_argument("--player-age", type=int, metavar="YEARS")
    for name in ("player-name", "player-name-ja", "player-gender"):
        get.add_argument(f"--{name}", metavar="TEXT")
    get.add_argument("--json", action="store_true", help="print the result as JSON")
    get.set_defaults(handler=_import)
    text = tr("카드를 JSON 또는 PNG로", "write a card as JSON or PNG")
    put = verbs.add_parser("export", help=text, description=text, epilog="example: rplab card export saya saya.png --image portrait.png")
    put.add_argument("card", metavar="CARD", help="bundled name or YAML file")
    put.add_argument("output", metavar="OUT", type=Path, help=".json or .png")
    put.add_argument("--image", metavar="PNG", type=Path, help="picture that the card goes into; default: a plain one")
    put.add_argument("--json", action="store_true", help="print the result as JSON")
    put.set_defaults(handler=_export)


def _import(arguments: argparse.Namespace) -> int:
    import yaml

    from rplab.character_cards.exchange import Stated, import_card
    from rplab.jsonl import write_text

    stated = Stated(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Stated)})
    imported = import_card(arguments.input, stated)
    fields = imported.card.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    fields.update(name=imported.card.name, gender=imported.card.gender, register=imported.card.register_.value)
    head = f"# Imported from {arguments.input.name!r}. Everything can be changed, except that every age is 20 or more.\n"
    write_text(arguments.output, head + yaml.safe_dump(fields, allow_unicode=True, sort_keys=False, width=120))
    if arguments.json:
        print(json.dumps({"out": str(arguments.output), "name": imported.card.name, "notes": imported.notes}, ensure_ascii=False))
        return 0
    print(f"{imported.card.name} -> {arguments.output}")
    for note in imported.notes:
        print(f"  {note}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from rplab.character import load_card
    from rplab.character_cards.container import png_with_card, write_bytes
    from rplab.character_cards.exchange import as_v2, export_card

    exported = export_card(load_card(arguments.card))
    text = json.dumps(exported, ensure_ascii=False, indent=1)
    suffix = arguments.output.suffix.lower()
    if suffix == ".json":
        write_bytes(arguments.output, (text + "\n").encode())
    elif suffix == ".png":
        cards = {"chara": json.dumps(as_v2(exported), ensure_ascii=False).encode(), "ccv3": text.encode()}
        write_bytes(arguments.output, png_with_card(cards, arguments.image))
    else:
        raise ConfigError(f"{arguments.output}: a card is written as .json or .png. Name such a file")
    print(json.dumps({"out": str(arguments.output)}) if arguments.json else f"{arguments.card} -> {arguments.output}")
    return 0
