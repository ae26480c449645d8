"""Talk to the character: the same as `rplab play`. No flow: play needs no orchestration, and imports none."""

from __future__ import annotations

import sys

from rplab.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["play", *sys.argv[1:]]))
