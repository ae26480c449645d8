"""Role-play data: packs, state machines, single-turn and multi-turn generation, checks.

How a row comes about: a seeded draw (`draw`, `singleturn`, `scenario`) -> a request (`prompts`, `turns`) -> an answer,
journalled before it is used (`journal`, `drive`) -> checks (`checks`, `payload`, `draft`) -> a row. How a dialogue
moves: `pacing` over the two machines (`machine`) of a pack (`pack`); `generate` gives it words.

To add a recipe: copy a folder of `packs/`, change its YAML, run `rplab data pack check NAME`.
To add a check: see `checks`. To add a prompt: put it into the pack's `prompts.yaml` and fill it in `turns`.
"""
