"""Korean text: cleaning, particles, quotes, speech level, script checks. No models, no files."""
