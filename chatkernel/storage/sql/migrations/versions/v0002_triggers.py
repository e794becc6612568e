"""Triggers: an event moves its channel's head, or is refused.

Whoever writes, a log is dense and its message ids rise. Who sends has read what is before it. As triggers they are
one step with the insert, which is what makes the common write a single statement.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

SQLITE = (
    """CREATE TRIGGER IF NOT EXISTS events_move_head AFTER INSERT ON events BEGIN
    UPDATE channels SET head_seq = NEW.seq, head_message_id = NEW.message_id,
        head_messages = NEW.messages_before + (NEW.kind = 'message'), members_seq = NEW.members_seq,
        listed_seq = CASE WHEN NEW.listed THEN NEW.seq ELSE listed_seq END
        WHERE channel_id = NEW.channel_id AND head_seq = NEW.seq - 1 AND head_message_id < NEW.message_id;
    SELECT RAISE(ABORT, 'does not follow the head of its channel') WHERE changes() = 0;
    END""",
    """CREATE TRIGGER IF NOT EXISTS events_read_by_sender AFTER INSERT ON events WHEN NEW.kind = 'message' BEGIN
    UPDATE memberships SET read_seq = NEW.seq, read_messages = NEW.messages_before + 1,
        delivered_seq = MAX(delivered_seq, NEW.seq)
        WHERE channel_id = NEW.channel_id AND user_id = NEW.sender_id AND read_seq < NEW.seq;
    END""",
)

# Once per statement, so that many events of a channel are one new version of its row and not as many. Always in
# the order of ids: of writers that meet in several channels one waits for the other, and not each for the other.
POSTGRES = (
    """CREATE FUNCTION events_move_head() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        given record;
    BEGIN
        FOR given IN
            SELECT DISTINCT ON (channel_id) channel_id, seq, message_id, members_seq,
                messages_before + (kind = 'message')::int AS messages,
                max(seq) FILTER (WHERE listed) OVER of_channel AS listed_seq,
                min(seq) OVER of_channel AS first_seq, min(message_id) OVER of_channel AS first_id,
                bool_and(follows) OVER of_channel AS dense
            FROM (
                SELECT *, seq = lag(seq, 1, seq - 1) OVER turn + 1
                    AND message_id > lag(message_id, 1, message_id - 1) OVER turn AS follows
                FROM new_events WINDOW turn AS (PARTITION BY channel_id ORDER BY seq)
            ) e
            WINDOW of_channel AS (PARTITION BY channel_id)
            ORDER BY channel_id, seq DESC
        LOOP
            UPDATE channels SET head_seq = given.seq, head_message_id = given.message_id,
                head_messages = given.messages, members_seq = given.members_seq,
                listed_seq = COALESCE(given.listed_seq, listed_seq)
                WHERE channel_id = given.channel_id AND given.dense AND head_seq = given.first_seq - 1
                AND head_message_id < given.first_id;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'does not follow the head of its channel'
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
        END LOOP;
        FOR given IN
            SELECT DISTINCT ON (channel_id, sender_id) channel_id, sender_id, seq, messages_before + 1 AS messages
            FROM new_events WHERE kind = 'message' ORDER BY channel_id, sender_id, seq DESC
        LOOP
            UPDATE memberships SET read_seq = given.seq, read_messages = given.messages,
                delivered_seq = GREATEST(delivered_seq, given.seq)
                WHERE channel_id = given.channel_id AND user_id = given.sender_id AND read_seq < given.seq;
        END LOOP;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER events_move_head AFTER INSERT ON events REFERENCING NEW TABLE AS new_events
    FOR EACH STATEMENT EXECUTE FUNCTION events_move_head()""",
)


def upgrade() -> None:
    bind = op.get_bind()
    for statement in POSTGRES if bind.dialect.name == "postgresql" else SQLITE:
        bind.exec_driver_sql(statement)
