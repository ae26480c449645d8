"""Prefect tasks: thin wrappers around `rplab`. All knowledge about caching and retries is in `tasks/stage.py`."""
