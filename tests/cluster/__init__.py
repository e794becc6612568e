"""A real Kubernetes on this machine, and the tests that need one."""
