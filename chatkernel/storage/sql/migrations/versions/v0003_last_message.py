"""A channel knows its last message, for lists of conversations, and no longer the last listed event, which may be a
join.

The column is renamed at once, and software of version 2 cannot go on beside it: there was no release that had more
than one machine.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

COLUMN = (
    "ALTER TABLE channels RENAME COLUMN listed_seq TO message_seq",
    """UPDATE channels SET message_seq = COALESCE((SELECT e.seq FROM events e
    WHERE e.channel_id = channels.channel_id AND e.listed AND e.kind = 'message'
    ORDER BY e.message_id DESC LIMIT 1), 0)""",
)

SQLITE = (
    # Before the column goes that it names.
    "DROP TRIGGER IF EXISTS events_move_head",
    *COLUMN,
    """CREATE TRIGGER events_move_head AFTER INSERT ON events BEGIN
    UPDATE channels SET head_seq = NEW.seq, head_message_id = NEW.message_id,
        head_messages = NEW.messages_before + (NEW.kind = 'message'), members_seq = NEW.members_seq,
        message_seq = CASE WHEN NEW.kind = 'message' THEN NEW.seq ELSE message_seq END
        WHERE channel_id = NEW.channel_id AND head_seq = NEW.seq - 1 AND head_message_id < NEW.message_id;
    SELECT RAISE(ABORT, 'does not follow the head of its channel') WHERE changes() = 0;
    END""",
)

# Two statements, whatever the number of rows: one per channel and per sender, in a loop, cost the server half as much
# again as all the rest of an insert. By nested loops, so that rows are locked in the order of ids.
POSTGRES = (
    *COLUMN,
    """CREATE OR REPLACE FUNCTION events_move_head() RETURNS trigger LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    DECLARE
        refused boolean;
    BEGIN
        WITH given AS MATERIALIZED (
            SELECT DISTINCT ON (channel_id) channel_id, seq, message_id, members_seq,
                messages_before + (kind = 'message')::int AS messages,
                max(seq) FILTER (WHERE kind = 'message') OVER of_channel AS message_seq,
                min(seq) OVER of_channel AS first_seq, min(message_id) OVER of_channel AS first_id,
                bool_and(follows) OVER of_channel AS dense
            FROM (
                SELECT *, seq = lag(seq, 1, seq - 1) OVER turn + 1
                    AND message_id > lag(message_id, 1, message_id - 1) OVER turn AS follows
                FROM new_events WINDOW turn AS (PARTITION BY channel_id ORDER BY seq)
            ) e
            WINDOW of_channel AS (PARTITION BY channel_id)
            ORDER BY channel_id, seq DESC
        ), moved AS (
            UPDATE channels c SET head_seq = given.seq, head_message_id = given.message_id,
                head_messages = given.messages, members_seq = given.members_seq,
                message_seq = COALESCE(given.message_seq, c.message_seq)
                FROM given WHERE c.channel_id = given.channel_id AND given.dense
                AND c.head_seq = given.first_seq - 1 AND c.head_message_id < given.first_id
                RETURNING 1
        )
        SELECT (SELECT count(*) FROM moved) < (SELECT count(*) FROM given) INTO refused;
        IF refused THEN
            RAISE EXCEPTION 'does not follow the head of its channel'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        UPDATE memberships m SET read_seq = given.seq, read_messages = given.messages,
            delivered_seq = GREATEST(m.delivered_seq, given.seq)
            FROM (
                SELECT DISTINCT ON (channel_id, sender_id) channel_id, sender_id, seq,
                    messages_before + 1 AS messages
                FROM new_events WHERE kind = 'message' ORDER BY channel_id, sender_id, seq DESC
            ) given
            WHERE m.channel_id = given.channel_id AND m.user_id = given.sender_id AND m.read_seq < given.seq;
        RETURN NULL;
    END $$""",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in POSTGRES if bind.dialect.name == "postgresql" else SQLITE:
        bind.exec_driver_sql(statement)
