"""What tests on a Kubernetes need: its clients, namespaces of their own, people who chat, and faults."""
