"""Runs generation stages against the mock server: `python stage_over_http.py URL FOLDER ROWS SCENARIOS [BACKEND-JSON]`.

Real models read the messages; the mock answers from the scripted grammar, which needs the slots. They travel pickled in
`metadata.slots`, added here and nowhere in the product.
"""

import base64
import json
import pickle
import sys
from pathlib import Path

from rplab.backend.config import OpenAIConfig
from rplab.backend.dialect import Dialect
from rplab.dialogue.config import DialoguesConfig, ScenariosConfig, SingleturnConfig
from rplab.dialogue.generate import generate_dialogues
from rplab.dialogue.scenario import generate_scenarios
from rplab.dialogue.singleturn import generate_singleturn
from rplab.stage import StageContext
from rplab.text import speech_level

plain_body = Dialect.body


def body_with_slots(self, request, **options):
    slots = base64.b64encode(pickle.dumps(request)).decode()
    return plain_body(self, request, **options) | {"metadata": {"slots": slots}}


def run(url, folder, num_rows, num_scenarios, **settings):
    """Return {stage: stats}; rows=0 or scenarios=0 leaves those stages out."""
    backend = OpenAIConfig(model="mock", base_url=url, **settings)
    stats = {}

    def context(name):
        out = Path(folder) / name
        out.mkdir(parents=True, exist_ok=True)
        return StageContext(out=out, resume=Path(folder) / f"{name}.resume")

    if num_rows:
        config = SingleturnConfig(target_rows=num_rows, in_flight=16, backend=backend)
        stats["singleturn"] = generate_singleturn(config, {}, context("singleturn"))
    if num_scenarios:
        config = ScenariosConfig(count=num_scenarios, in_flight=16, backend=backend)
        stats["scenarios"] = generate_scenarios(config, {}, context("scenarios"))
        config = DialoguesConfig(turns=2, signals="judge", in_flight=16, backend=backend)
        inputs = {"scenarios": Path(folder) / "scenarios"}
        stats["dialogues"] = generate_dialogues(config, inputs, context("dialogues"))
    return stats


if __name__ == "__main__":
    Dialect.body = body_with_slots
    speech_level._level_by_morphemes = lambda *_, **__: speech_level.Level.UNKNOWN  # Kiwi takes 2 s to load and is not asked about here
    extra = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    print(json.dumps(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), **extra)))
