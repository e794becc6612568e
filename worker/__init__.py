"""The worker: what must not sit on the hot path. Imports only chatkernel."""
