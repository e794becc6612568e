"""The MongoDB adapter: PyMongo's async client."""

from chatkernel.storage.mongo.store import open_mongo

__all__ = ["open_mongo"]
