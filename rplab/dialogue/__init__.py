"""Role-play data: packs, state machines, single-turn and multi-turn generation, checks."""
