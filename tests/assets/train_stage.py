"""Run a training stage function in a process of its own, and kill it by itself at a step: `train_stage.py SPEC.json`.

SPEC: {entry, config_type, config, inputs, out, resume, kill_at}. SIGKILL comes from inside, so that the step is exact.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

from rplab.stage import StageContext


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    def report(progress):
        if spec["kill_at"] is not None and progress.done == spec["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    module, _, name = spec["entry"].partition(":")
    config = getattr(importlib.import_module("rplab.llm.config"), spec["config_type"]).model_validate(spec["config"])
    out, resume = Path(spec["out"]), Path(spec["resume"])
    out.mkdir(parents=True, exist_ok=True)
    resume.mkdir(parents=True, exist_ok=True)
    context = StageContext(out=out, resume=resume, report=report)
    stats = getattr(importlib.import_module(module), name)(config, {k: Path(v) for k, v in spec["inputs"].items()}, context)
    print(json.dumps(stats))


main()
