"""Replaying recorded exchanges with real PanDA servers: `python -m pilot_devserver.replay FILE.jsonl ...`."""
