"""Japanese speech."""
