"""The drill: load, faults, and a checker of what everybody saw, against any running cluster."""
