"""RP Lab: makes a Korean role-play character that answers in text and speaks Japanese.

The library half: it knows nothing of Prefect, and importing it loads no torch. Stages are pure functions over
directories (`rplab.stage`), wired once in `rplab.pipeline`; `tasks/` and `flows/` only orchestrate them.
"""
