"""Telling people when something goes wrong: rules, what they raise, and the messages about it."""
