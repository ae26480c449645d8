"""Japanese sentences for the smoke corpus: a small grammar of everyday speech, thousands of distinct sentences.

Lists are chosen so that every Japanese phone of the symbol table occurs, also the rare ones (ヴ, ティ, ファ, ヒャ, ミュ).
"""

from __future__ import annotations

from collections.abc import Sequence

from rplab.seeding import derive

_WHEN = (
    "今日は", "明日", "昨日の夜", "来週の土曜日", "夏休みに", "朝早く", "夕方になると", "さっき", "毎日", "この前", "冬の間",
    "雨の日は", "昼過ぎに", "月曜の朝", "先月", "子供のころ", "放課後", "いつか", "久しぶりに", "真夜中に",
)  # fmt: skip
_WHO = (
    "私が", "弟が", "友達のミカが", "隣のおじさんが", "先生は", "姉と妹が", "あの旅人は", "白い猫が", "店長が", "父と母が",
    "医者のヒョウマさんは", "みんなが", "幼なじみが", "小さな女の子が", "駅員さんが", "祖母は", "彼女が", "僕たちは",
    "留学生のティナが", "画家のヴィクトルが",
)  # fmt: skip
_WHERE = (
    "駅前の喫茶店で", "川沿いの道を", "図書館の窓際で", "海の見える丘で", "古い神社の前で", "台所で", "公園のベンチで",
    "学校の屋上で", "市場の奥で", "森の小屋で", "バスの中で", "旅館の玄関で", "山の頂上で", "病院の待合室で", "広場の噴水の横で",
    "舞台の上で", "畑の真ん中で", "港の倉庫で", "カフェのテラスで", "雪の積もる庭で",
)  # fmt: skip
_WHAT = (
    "新しい本を読んでいました", "お茶をゆっくり飲みます", "古い地図を広げた", "百枚の写真を撮りました", "美しい曲を聞かせてくれた",
    "大きな傘をさしていた", "手紙を三通書きました", "りんごを五つ買ってきた", "ギョーザを焼いてくれます",
    "ヴァイオリンを弾いていた", "みんなで歌を歌いましょう", "ファンに手を振った", "パーティーの準備をしています",
    "冷たい牛乳を飲み干した", "客の忘れ物を届けました", "ひゃっと声を上げた", "急に走り出した", "冗談を言って笑った",
    "星を眺めるのが好きです", "メニューを何度も見比べた", "切符をなくして困っていた", "靴ひもを結び直した",
    "ピアノの練習を始めます", "難しい質問に答えた", "猫に名前をつけました", "電話番号を教えてください", "自転車を修理してもらった",
    "夢の話をしてくれました", "ジャムの瓶を開けた", "料理の味を確かめます",
)  # fmt: skip
_TAIL = (
    "。", "ね。", "よ。", "、本当に。", "から、安心してください。", "けれど、少し寂しい。", "ので、驚きました。", "と聞きました。",
    "そうです。", "?",
)  # fmt: skip
_STANDING = (
    "おはようございます。", "ありがとう、助かりました。", "えっ、それは本当ですか?", "気をつけて行ってらっしゃい。",
    "ちょっと待ってください!", "どうぞよろしくお願いします。", "また明日、同じ場所で会いましょう。",
    "大丈夫、きっとうまくいくよ。", "今、何時ですか?", "お腹がすいたなあ。", "急がなくても平気です。", "百聞は一見にしかず。",
)  # fmt: skip


def make_sentences(count: int, seed: int) -> list[str]:
    """Return `count` distinct sentences; equal arguments give equal sentences, and more of them begin with the same.

    Raises:
        ValueError: More than the grammar holds.
    """
    most = len(_WHEN) * len(_WHO) * len(_WHERE) * len(_WHAT)
    if count > most:
        raise ValueError(f"the grammar has {most} sentences, {count} were asked for")
    seen: dict[str, None] = dict.fromkeys(_STANDING[:count])
    number = 0
    while len(seen) < count:
        seen[_compose(seed, number)] = None
        number += 1
    return list(seen)


def _compose(seed: int, number: int) -> str:
    draw = derive(seed, "sentence", number)

    def one(parts: Sequence[str]) -> str:
        return parts[draw.randrange(len(parts))]

    order = draw.random()
    what = one(_WHAT)
    tail = "。" if what.endswith(("ください", "ましょう")) else one(_TAIL)
    if order < 0.15:
        return f"{one(_WHEN)}、{one(_WHO)}{one(_WHERE)}{what}{tail}"
    if order < 0.4:
        return f"{one(_WHO)}{one(_WHERE)}{what}。"
    if order < 0.7:
        return f"{one(_WHEN)}{what}{tail}"
    return f"{one(_WHO)}{what}。"
