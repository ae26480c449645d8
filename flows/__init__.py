"""Prefect flows: the pipeline as one story each. `play.py` is not a flow, it is the chat."""
