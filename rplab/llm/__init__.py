"""Language models: base, SFT, merge, GRPO, rewards, evaluation."""
