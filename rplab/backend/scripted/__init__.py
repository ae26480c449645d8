"""The embedded text model: a seeded Korean grammar with Japanese side by side."""
