"""Jobs in the background: retention, erasure, export. One claims them (`runner.py`), one file does each kind."""
