"""The session: text model, parser, translator, voice, loudspeaker.

A turn is a bounded graph (`turn`, `speech`) behind a conversation (`session`); engines come in by protocol (`engines`), are
wired in `rplab.cli.play`, and load in the background. Nothing here imports torch or Prefect.

To add an engine: implement its protocol, build it in `rplab/cli/play_models.py`, name it in `config`.
To add a command: a method and a line in `conversation.Conversation`.
To add a sink: a class in `devices` with the methods of `audio.AudioSink`, its name in `audio` and `config`.
"""
