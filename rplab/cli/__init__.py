"""The `rplab` command line."""
