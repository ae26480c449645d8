"""Japanese sentences for the smoke corpus: a small grammar of everyday speech, millions of distinct sentences.

Words are many, so that a network learns phones and not phrases; some names are invented, so that every mora of the
language occurs next to every other one, also the rare ones (ヴ, ティ, ファ, ヒャ, ミュ).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from rplab.seeding import derive


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_WORDS: Mapping[str, Sequence[str]] = {
    "when": _words(
        "今日は 明日 昨日の夜 来週の土曜日 夏休みに 朝早く 夕方になると さっき 毎日 この前 冬の間 雨の日は 昼過ぎに 月曜の朝 先月 "
        "子供のころ 放課後 いつか 久しぶりに 真夜中に 午前十時に 午後三時ごろ 去年の秋 春になったら 週末に 二年前 夜明け前に 六月に "
        "食事のあとで 仕事の帰りに 日曜日は 今から 今朝 あさって 五分後に 一日中 若いころ 最近 正月に 水曜日に"
    ),
    "who": _words(
        "私 弟 友達のミカ 隣のおじさん 先生 姉と妹 あの旅人 白い猫 店長 父と母 医者のヒョウマさん みんな 幼なじみ 小さな女の子 "
        "駅員さん 祖母 彼女 僕たち 留学生のティナ 画家のヴィクトル 社長 兄 彼 母 父 お客さん 警察官 大工さん 魔法使い 王子 "
        "運転手 選手たち 子供たち 看護師さん 後輩 先輩 村長 隊長 記者 通訳 息子 娘 おばあさん お姉ちゃん 犬 カラス"
    ),
    "where": _words(
        "駅前の喫茶店 川沿いの道 図書館の窓際 海の見える丘 古い神社の前 台所 公園のベンチ 学校の屋上 市場の奥 森の小屋 バスの中 "
        "旅館の玄関 山の頂上 病院の待合室 広場の噴水の横 舞台の上 畑の真ん中 港の倉庫 カフェのテラス 雪の積もる庭 東京 大阪 "
        "北海道 空港 会議室 教室 郵便局 銀行の前 橋の上 地下鉄の駅 美術館 遊園地 居間 風呂場 本屋 体育館 研究所 城の地下 町外れ 温泉"
    ),
    "thing": _words(
        "本 お茶 地図 写真 曲 傘 手紙 りんご ギョーザ ヴァイオリン 歌 牛乳 忘れ物 冗談 星 メニュー 切符 靴ひも ピアノ 質問 電話番号 "
        "自転車 夢の話 ジャムの瓶 料理の味 鍵 時計 帽子 財布 眼鏡 荷物 封筒 コーヒー ラーメン パソコン 牛肉 野菜 卵 魚 お弁当 "
        "布団 石けん 薬 花束 指輪 宝物 剣 絵 人形 雑誌 新聞 小説 約束 予定 秘密 宿題 試験 計画 予約 映画 劇 旅行 練習 "
        "研究 会議の資料 窓 扉 机 椅子 皿 茶碗 箸 鏡 箱 紙 絵の具 筆 楽器 ギター フルート チケット シャツ ボタン ケーキ "
        "チョコレート プリン ジュース ミルク バター スープ うどん 味噌汁 おにぎり 天ぷら 豆腐 桃 葡萄 柿 栗 百円玉 "
        "入場券 証明書 辞書 日記 暗号 呪文 冒険 魔法の杖"
    ),
    "quality": _words(
        "新しい 古い 大きな 小さな 赤い 青い 白い 黒い 黄色い 美しい 冷たい 熱い 甘い 苦い 辛い 重い 軽い 珍しい 高い 安い "
        "丸い 四角い 長い 短い 不思議な 静かな 便利な 大切な 立派な 奇妙な きれいな 有名な 変な 柔らかい 固い 懐かしい 怪しい"
    ),
    "act": _words(
        "読んでいました 探しています 見つけた 忘れました 買ってきた 貸してくれた 届けました 落としてしまった 片付けます 選びました "
        "運んでいます 見せてもらった 隠した 直してもらいました 比べた 描いていた 数えました 受け取った 持ってきました 大事にしている "
        "欲しがっている あげました なくした 用意しました 頼みました 投げた 拾った 調べています 作ります 思い出した 断りました "
        "待っていた 始めます やめた 手伝ってくれた 褒められた 包んだ 並べました 壊してしまった 預けた 説明した 覚えている 撮りました"
    ),
    "event": _words(
        "急に走り出した ひゃっと声を上げた 星を眺めていた みんなで歌いましょう ファンに手を振った パーティーの準備をしています "
        "困っていた 笑った 泣いていた 眠ってしまった 雨が降ってきた 風が強くなった 電車が遅れました 目が覚めた 道に迷った "
        "ゆっくり歩いた 転んでしまった 黙っていた 怒っていました 散歩に出かけた 昼寝をしている 手を挙げた 頷いた 首を横に振った "
        "ため息をついた 勉強を続けます 電話をかけた 寄り道をした 深呼吸をした 体操をします 引っ越しました 結婚した 働いています "
        "空を見上げた 呼ばれて振り返った 遅くまで起きていた 元気になりました 留守番をしていた 海で泳いだ 雪が溶けた 病気が治った"
    ),
    "predicate": _words(
        "とても面白い 少し難しい 本当に助かる かなり遠い あまり好きじゃない 一番大切だ 思ったより簡単だ ずっと忘れない ちょっと怖い "
        "まだ分からない もう間に合わない やっぱり最高だ なかなか珍しい きっと大丈夫だ 案外楽しい 少し寂しい すごく嬉しい 意外と安い "
        "ひどく眠い 相変わらず元気だ とても綺麗だった 全然違う 絶対に無理だ 恥ずかしい 羨ましい 危ない 気持ちがいい 残念だ"
    ),
    "topic": _words(
        "この問題 あの人の話 今日の天気 その答え 昨日の映画 ここの景色 彼の意見 冬の朝 この部屋 駅までの道 次の授業 母の料理 "
        "新しい仕事 一人の時間 その言葉 隣の家 夜の学校 最後の場面 明日の会議 海の色 約束の場所 君の声 この町 値段 歴史"
    ),
    "tail": (
        "。", "。", "。", "ね。", "よ。", "、本当に。", "から、安心して。", "けれど。",
        "ので、驚きました。", "と聞きました。", "?", "!",
    ),
    "joint": (
        "それから、", "でも、", "だから、", "実は、", "たぶん、", "ねえ、", "えっと、", "もしかして、",
        "なるほど、", "そういえば、", "まあ、",
    ),
    "short": (
        "おはようございます。", "ありがとう、助かりました。", "えっ、それは本当ですか?", "気をつけて行ってらっしゃい。",
        "ちょっと待ってください!", "どうぞよろしくお願いします。", "また明日、同じ場所で会いましょう。", "大丈夫、きっとうまくいくよ。",
        "今、何時ですか?", "お腹がすいたなあ。", "急がなくても平気です。", "百聞は一見にしかず。", "ごめんなさい、遅くなりました。",
        "はい、分かりました。", "いいえ、違います。", "初めまして、よろしくね。", "お久しぶりです。", "どうしたの?", "もう少しだけ、いい?",
        "心配しないで。", "信じられない!", "そんなつもりじゃなかった。", "助けて!", "好きにすればいい。", "うん、そうだね。",
        "こんばんは、いい夜ですね。", "おやすみなさい。", "いただきます。", "ごちそうさまでした。", "失礼いたします。", "やった、勝った!",
        "静かにしてください。", "誰かいるの?", "話を聞いてくれる?", "手を離さないで。", "ずっと一緒にいよう。", "君のことが好きだ。",
    ),
}  # fmt: skip
_MORAE = _words(
    "ア イ ウ エ オ カ キ ク ケ コ サ シ ス セ ソ タ チ ツ テ ト ナ ニ ヌ ネ ノ ハ ヒ フ ヘ ホ マ ミ ム メ モ ヤ ユ ヨ ラ リ ル レ ロ ワ "
    "ガ ギ グ ゲ ゴ ザ ジ ズ ゼ ゾ ダ デ ド バ ビ ブ ベ ボ パ ピ プ ペ ポ キャ キュ キョ シャ シュ ショ チャ チュ チョ ニャ ニュ ニョ "
    "ヒャ ヒュ ヒョ ミャ ミュ ミョ リャ リュ リョ ギャ ギュ ギョ ジャ ジュ ジョ ビャ ビュ ビョ ピャ ピュ ピョ ファ フィ フェ フォ ティ "
    "ディ チェ シェ ジェ ウィ ウェ ウォ ヴァ ヴィ ヴェ トゥ ドゥ"
)
_TEMPLATES = (
    "{when}、{who}が{thing}を{act}{tail}",
    "{who}は{where}で{quality}{thing}を{act}。",
    "{when}{event}{tail}",
    "{who}が{event}。",
    "{where}に{thing}と{thing}があります。",
    "{topic}は{predicate}{tail}",
    "{joint}{topic}は{predicate}。",
    "{joint}{who}が{event}{tail}",
    "{quality}{thing}を{act}。",
    "{who}と{where}へ行きましょう。",
    "{thing}を{number}つください。",
    "{who}に{thing}を渡してください。",
    "{number}時{number}分に{where}で会いましょう。",
    "{when}、{where}で{event}。",
    "{thing}はどこですか?",
    "{who}の{thing}が{quality}とは知らなかった。",
    "{name}は{name}の{thing}です。",
    "{name}と{name}が{event}。",
    "{name}、{name}、それに{name}。",
    "{who}は{name}と呼ばれている。",
    "{short}",
)  # fmt: skip
_NUMBERS = _words("一 二 三 四 五 六 七 八 九 十 十一 十二")


def make_sentences(count: int, seed: int) -> list[str]:
    """Return `count` distinct sentences; equal arguments give equal sentences, and more of them begin with the same.

    Raises:
        ValueError: More than the grammar can be trusted to hold.
    """
    if count > 1_000_000:
        raise ValueError(f"the grammar is good for 1000000 sentences, {count} were asked for")
    seen: dict[str, None] = {}
    number = 0
    while len(seen) < count:
        seen[_compose(derive(seed, "sentence", number))] = None
        number += 1
    return list(seen)


def _compose(draw: random.Random) -> str:
    parts: list[str] = []
    for piece in draw.choice(_TEMPLATES).split("{"):
        word, brace, after = piece.partition("}")
        parts += [_word(word, draw), after] if brace else [word]
    return "".join(parts)


def _word(kind: str, draw: random.Random) -> str:
    if kind == "name":
        return _invent(draw)
    if kind == "number":
        return draw.choice(_NUMBERS[:9])
    return draw.choice(_WORDS[kind])


def _invent(draw: random.Random) -> str:
    """Return an invented word of two to four morae, some with a long vowel, a doubled consonant or ン."""
    word = ""
    for index in range(draw.randint(2, 4)):
        if index and draw.random() < 0.12:
            word += draw.choice("ンッー" if not word.endswith(("ン", "ッ", "ー")) else "ラ")
        word += draw.choice(_MORAE)
    return word + draw.choice(("", "", "", "ン", "ー"))
