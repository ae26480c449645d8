"""What the rewards look for in a reply: labels, template tokens, endings."""

from __future__ import annotations

import re

SUBJECT = "(?:은|는|이|가|께서|이는|이가)"
CONNECTIVE = "(?:그리고|그러자|그때|이때|이어서|이윽고|곧|이내|그제야|한편|잠시 후)"
META = re.compile(r"언어 ?모델|(?:AI|인공지능) ?(?:모델|비서|어시스턴트)|프롬프트|\b(?:OOC|ooc)\b")
"""Talk about being a model or about the game itself."""
LABEL = re.compile(
    r"^\s*[\[(<*_#\s-]*(?:system|user|assistant|human|bot|ai|role|player|character|speaker|narrator|narration|dialogue"
    r"|시스템|사용자|유저|플레이어|주인공|나레이션|내레이션|서술|대사|화자)[\])>*_\s]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
MARKER = re.compile(
    r"<\|[^|>\n]{0,40}\|?>?|</?(?:s|think|tool_call|assistant|user|system|bos|eos|pad|unk)>|\[/?INST\]|<<SYS>>"
    r"|\bim_(?:start|end)\b|endoftext|^\s*#{2,}\s|```",
    re.IGNORECASE | re.MULTILINE,
)
INLINE_LABEL = re.compile(r"\b(?:system|user|assistant|role)\s*[:：]", re.IGNORECASE)
SPEECH_VERB = re.compile(r"(?:말|묻|물었|물어|대답|답했|답한|속삭|소리치|소리쳤|외치|외쳤|외친|중얼|되묻|되물|부른|불렀|소개)")
HANGUL = re.compile(r"[가-힣]")
PLAIN_END = re.compile(r"[가-힣]다[\s.!?…~,\"'”’)]*$")
ALLOWED = re.compile(r"[가-힣ㅋㅎㅠㅜ0-9\s.,!?…~·\-–—:;'’‘\"“”()%]")
SHORT_ITEMS = 6
"""From so many one-word items in a row on, a sentence is a list and not speech."""
SHORT_SENTENCE = 3
"""Sentences with fewer letters may be said twice ("응. 응."); one inside another counts from one letter more ("고마워. 정말 고마워.")."""
REORDERED_WORDS = 4
"""From so many different words on, words shared with the player's line count as copied whatever their order."""
