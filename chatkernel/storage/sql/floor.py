"""What retention leaves visible and unread, as SQL over a membership `m` and its channel `c`."""

VISIBLE_FROM = "CASE WHEN m.from_seq > c.floor_seq THEN m.from_seq ELSE c.floor_seq END"
"""Events up to and including this seq are not the member's to see."""

READ_MESSAGES = "CASE WHEN m.read_messages > c.floor_messages THEN m.read_messages ELSE c.floor_messages END"
"""What is gone is not unread."""
