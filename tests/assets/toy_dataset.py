"""A small dataset artefact (views only) from a grammar of its own, so that training tests need no data stage."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

PROTAGONISTS = [("사야", "サヤ"), ("마이", "マイ"), ("코하루", "コハル"), ("유나", "ユナ")]
PLAYERS = [("카즈키", "カズキ"), ("하야토", "ハヤト"), ("소마", "ソマ"), ("지훈", "ジフン")]
PLACES = [
    ("부두", "埠頭"),
    ("서점", "書店"),
    ("정원", "庭"),
    ("옥상", "屋上"),
    ("찻집", "茶屋"),
    ("역", "駅"),
    ("강가", "川辺"),
    ("도서관", "図書館"),
]
WEATHER = [
    ("비가 오네", "雨が降るね"),
    ("바람이 차네", "風が冷たいね"),
    ("해가 지네", "日が沈むね"),
    ("눈이 오네", "雪が降るね"),
    ("하늘이 맑네", "空が晴れたね"),
]
ASKS = [
    ("오늘은 뭐 했어?", "今日は何をした？"),
    ("같이 걸을래?", "一緒に歩く？"),
    ("배고프지 않아?", "お腹すかない？"),
    ("무슨 생각해?", "何を考えてる？"),
    ("괜찮아?", "大丈夫？"),
]
MOVES = [
    ("고개를 든다", "顔を上げる"),
    ("창밖을 본다", "窓の外を見る"),
    ("작게 웃는다", "小さく笑う"),
    ("손을 내민다", "手を差し出す"),
    ("걸음을 멈춘다", "足を止める"),
    ("숨을 고른다", "息を整える"),
]
MOODS = [("조용히", "静かに"), ("천천히", "ゆっくり"), ("말없이", "黙って"), ("부드럽게", "優しく")]
CASUAL = [
    ("기다리고 있었어", "待っていたよ"),
    ("조금 피곤해", "少し疲れた"),
    ("같이 있어 줘", "一緒にいて"),
    ("네가 와서 기뻐", "来てくれて嬉しい"),
    ("비밀로 해 줘", "秘密にして"),
    ("내일도 올 거지", "明日も来るよね"),
]
POLITE = [
    ("기다리고 있었어요", "待っていました"),
    ("조금 피곤해요", "少し疲れました"),
    ("같이 있어 주세요", "一緒にいてください"),
    ("와 줘서 기뻐요", "来てくれて嬉しいです"),
    ("비밀로 해 주세요", "秘密にしてください"),
    ("내일도 올 거죠", "明日も来ますよね"),
]


def _scene(rng):
    protagonist, player = rng.choice(PROTAGONISTS), rng.choice(PLAYERS)
    return protagonist, player, rng.choice(["존댓말", "반말"]), rng.choice(PLACES)


def _system(protagonist, player, register, place):
    return (
        f"「{protagonist[0]}」\n1. 역할 선언\n당신은 {protagonist[0]}이다. 플레이어는 {player[0]}이다.\n2. 세계\n{place[0]}\n"
        f"3. 주인공\n이름: {protagonist[0]} (24세, 여성)\n말투: {register}\n4. 플레이어\n이름: {player[0]} (26세, 남성)\n"
        "6. 발화 규칙\n첫 줄은 서술, 둘째 줄은 따옴표로 묶은 대사 한 줄만 쓴다."
    )


def _user(rng):
    weather, ask = rng.choice(WEATHER), rng.choice(ASKS)
    return f"{weather[0]}. {ask[0]}"


def _reply(rng, protagonist, register, place):
    mood, move, line = rng.choice(MOODS), rng.choice(MOVES), rng.choice(POLITE if register == "존댓말" else CASUAL)
    particle = "는" if (ord(protagonist[0][-1]) - 0xAC00) % 28 == 0 else "은"
    narration = f"{protagonist[0]}{particle} {place[0]}에서 {mood[0]} {move[0]}."
    return narration, line


def _dialogue(rng, turns):
    protagonist, player, register, place = _scene(rng)
    messages = [{"role": "system", "content": _system(protagonist, player, register, place)}]
    pairs = []
    for _ in range(turns):
        narration, line = _reply(rng, protagonist, register, place)
        messages += [{"role": "user", "content": _user(rng)}, {"role": "assistant", "content": f'{narration}\n"{line[0]}."'}]
        pairs.append((f"{line[0]}.", f"{line[1]}。"))
    return messages, pairs, protagonist[0], player[0], register


def write_toy_dataset(out: Path, rows: int = 300, seed: int = 1) -> Path:
    """Write views/{sft1,sft2,grpo,translation}/{train,eval}.jsonl below `out`."""
    for side, count in (("train", rows), ("eval", max(20, rows // 8))):
        rng = random.Random(f"{seed}-{side}")
        views = {"sft1": [], "sft2": [], "grpo": [], "translation": []}
        for index in range(count):
            messages, pairs, protagonist, player, register = _dialogue(rng, 1)
            views["sft1"].append({"messages": messages})
            long, more, *_ = _dialogue(rng, 2 + index % 3)
            if index % 3 == 0:
                views["sft2"].append({"messages": long})
            views["grpo"].append({
                "id": f"{side}-{index}", "prompt": "", "prompt_messages": messages[:-1], "reference": messages[-1]["content"],
                "protagonist": protagonist, "player": player, "register": register, "meta": {},
            })  # fmt: skip
            for korean, japanese in [*pairs, *more]:
                views["translation"].append({"instruction": "번역", "input": korean, "output": japanese})
        for view, items in views.items():
            path = out / "views" / view / f"{side}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return out


if __name__ == "__main__":
    write_toy_dataset(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300)
