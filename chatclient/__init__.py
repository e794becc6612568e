"""The Python client library and the command line `chatctl`."""
