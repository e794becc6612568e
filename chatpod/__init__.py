"""Chat pods: the sockets. Imports only chatkernel."""
