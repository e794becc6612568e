"""What every service shares: ids, the protocol, errors, storage ports, the Redis modules, messaging.

Imports no service.
"""
