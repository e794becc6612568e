"""The operator: the pure plan, the reconcile loop, and the places where pods run."""
