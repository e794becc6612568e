"""API pods: everything that is request and response. Imports only chatkernel."""
