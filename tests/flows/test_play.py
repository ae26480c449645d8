"""flows/play.py: the same as `rplab play`, without orchestration, and quick to start."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_play_starts_without_prefect_and_without_torch():
    code = """
import runpy, sys
sys.argv = ["play.py", "--help"]
try:
    runpy.run_path("flows/play.py", run_name="__main__")
except SystemExit:
    print([name for name in ("prefect", "torch", "transformers", "pyopenjtalk", "kiwipiepy") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert "--wav" in done.stdout


def test_what_the_prompt_needs_brings_neither_prefect_nor_models():
    code = """
import sys
import rplab.cli.play, rplab.cli.play_live, rplab.play.published, rplab.play.terminal, rplab.play.terminal_screen, rplab.play.threads
print([name for name in ("prefect", "torch", "transformers", "pyopenjtalk", "kiwipiepy", "onnxruntime") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == "[]\n", done.stderr


def test_play_without_a_character_ends_with_2_and_a_remedy(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "flows" / "play.py", "--store", tmp_path, "--text", "안녕"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert done.returncode == 2
    assert "make demo" in done.stderr
    assert done.stdout == ""
