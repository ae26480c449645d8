"""Tell narration from speech where a reply has no quotation marks.

Narration of this lab is third person in the plain form: it starts with somebody's name and a particle, or ends in a
narrative -다. Everything else can only be guessed; the guess is `None` ("unsure") and the parser decides by the rest of the
reply. Rules only, no dictionary: this runs between two tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rplab.play.events import Kind

_PARTICLES = "(?:은|는|이|가|의|을|를|도|만|와|과|에게|께서|은커녕|には|は|が|の|を|も)"
_THIRD_PERSON = re.compile(r"^(?:그녀|그는|그가|그의|그를|그도|彼女|彼は|彼が)")
_TAIL = "[.。…‥!！~〜」』”’\"'\\s]*$"
_PLAIN_END = re.compile(rf"(?P<stem>[가-힣])다{_TAIL}")
_POLITE_END = re.compile(
    rf"(?:니다|니까|세요|시오|예요|에요|어요|아요|해요|네요|군요|지요|죠|고요|걸요|래요|게요|까요|나요|가요|요){_TAIL}"
)
_CASUAL_END = re.compile(
    rf"(?:거야|이야|아니야|뭐야|야|잖아|거든|구나|는걸|은걸|던데|을게|을래|을까|"
    rf"그래|안녕|응|아니|미안해|사랑해|부탁해|좋아해|싫어해|고마워|무서워|줘|봐|돼|"
    rf"[하이겠았었했렇맞알][지네]|[하가보먹쉬]자|[갈할줄볼올살될]게|[갈할줄볼올살될]래|[갈할줄볼올살될]까){_TAIL}"
)
_OPEN_STEM_END = re.compile(rf"(?P<stem>[가-힣])[어아]{_TAIL}")
_FIRST_PERSON = re.compile(
    r"(?:^|[\s,])(?:나|난|내가|날|너|넌|네가|니가|널|우리|저는|제가|당신)(?:는|도|를|랑|한테|에게|의)?(?=[\s,.?!…]|$)"
)
_ASKS = re.compile(r"[?？!！][」』”’\"'\s~]*$")

_SS, _N = 20, 4
_VERBAL_CODAS = frozenset({_SS, 18, 6, 27, 25, 7, 26, 22})
"""ㅆ ㅄ ㄶ ㅎ ㅌ ㄷ ㅍ ㅈ: before 어/아 they end a verb stem (있어, 없어, 많아, 좋아, 같아, 믿어, 싶어, 늦어)."""


def guess_kind(sentence: str, names: Sequence[str]) -> Kind | None:
    """Say whether an unquoted sentence is narration or speech; None when nothing tells.

    Args:
        sentence: One sentence without quotation marks.
        names: Names (Korean and kana) of the people in the scene.

    Example:
        >>> guess_kind("사야는 한숨을 쉬었다.", ["사야"]), guess_kind("나 좀 피곤해.", ["사야"])
        ('narration', 'dialogue')
    """
    if starts_with_name(sentence, names) or _THIRD_PERSON.match(sentence):
        return "narration"
    if _POLITE_END.search(sentence) or _CASUAL_END.search(sentence):
        return "dialogue"
    if (match := _OPEN_STEM_END.search(sentence)) and _coda(match["stem"]) in _VERBAL_CODAS:
        return "dialogue"
    if match := _PLAIN_END.search(sentence):
        return _guess_plain(sentence, match["stem"])
    if _FIRST_PERSON.search(sentence) or _ASKS.search(sentence):
        return "dialogue"
    return None


def starts_with_name(sentence: str, names: Sequence[str]) -> bool:
    """Whether a sentence starts with a name and a particle, as third-person narration does (`카즈키,` calls somebody)."""
    return any(re.match(re.escape(name) + _PARTICLES + r"(?=\s|[,，]|[^\s,.!?]|$)", sentence) for name in names if name)


def _guess_plain(sentence: str, stem: str) -> Kind | None:
    """Judge a sentence that ends in -다: -었다, -ㄴ다 and -이다 narrate; -겠다, -싶다 and a lone adjective often exclaim."""
    if stem in "겠싶":
        return None
    if _coda(stem) in (_SS, _N) or stem == "이" or len(sentence.split()) > 1:
        return "narration"
    return "dialogue"


def _coda(syllable: str) -> int:
    """Return the number of a Hangul syllable's final consonant, 0 for none."""
    return (ord(syllable) - 0xAC00) % 28
