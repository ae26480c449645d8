"""The session: text model, parser, translator, voice, speaker."""
