"""The prober: talks through every chat pod all the time, and tells which of them do not deliver."""
