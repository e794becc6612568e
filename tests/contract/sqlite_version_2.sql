BEGIN TRANSACTION;
CREATE TABLE bans (
	channel_id TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (channel_id, user_id), 
	FOREIGN KEY(channel_id) REFERENCES channels (channel_id)
)
 WITHOUT ROWID

;
INSERT INTO "bans" VALUES('local_gteam','u_eve',6);
CREATE TABLE blocks (
	user_id TEXT NOT NULL, 
	other_id TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	PRIMARY KEY (user_id, other_id), 
	CHECK (user_id <> other_id), 
	FOREIGN KEY(user_id) REFERENCES users (user_id), 
	FOREIGN KEY(other_id) REFERENCES users (user_id)
)
 WITHOUT ROWID

;
CREATE TABLE channels (
	channel_id TEXT NOT NULL, 
	kind TEXT NOT NULL CHECK (kind IN ('direct', 'group')), 
	name TEXT NOT NULL, 
	history_from_start BOOLEAN DEFAULT 0 NOT NULL, 
	created_at BIGINT NOT NULL, 
	head_seq BIGINT DEFAULT '0' NOT NULL, 
	head_message_id BIGINT DEFAULT '0' NOT NULL, 
	head_messages BIGINT DEFAULT '0' NOT NULL, 
	members_seq BIGINT DEFAULT '0' NOT NULL, 
	listed_seq BIGINT DEFAULT '0' NOT NULL, 
	member_count BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (channel_id), 
	CHECK (head_seq >= 0 AND member_count >= 0)
)
 WITHOUT ROWID

;
INSERT INTO "channels" VALUES('local_gteam','group','Team',0,1790000001000,6,351980773376000,2,6,6,2);
CREATE TABLE devices (
	device_id TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	last_seen_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(user_id) REFERENCES users (user_id)
)
 WITHOUT ROWID

;
INSERT INTO "devices" VALUES('d_1','u_ann','phone',1,1,NULL);
CREATE TABLE edits (
	channel_id TEXT NOT NULL, 
	target_id BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (channel_id, target_id, seq), 
	FOREIGN KEY(channel_id) REFERENCES channels (channel_id)
)
 WITHOUT ROWID

;
INSERT INTO "edits" VALUES('local_gteam',351980756992000,4);
CREATE TABLE events (
	channel_id TEXT NOT NULL, 
	seq BIGINT NOT NULL CHECK (seq >= 1), 
	message_id BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	sender_id TEXT NOT NULL, 
	client_msg_id TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	messages_before BIGINT NOT NULL, 
	members_seq BIGINT NOT NULL, 
	listed BOOLEAN NOT NULL, 
	text TEXT, 
	metadata TEXT, 
	reply_to BIGINT, 
	target_id BIGINT, 
	extra TEXT, 
	edited_text TEXT, 
	edited_at BIGINT, 
	edit_seq BIGINT, 
	deleted_seq BIGINT, 
	PRIMARY KEY (channel_id, seq), 
	CONSTRAINT events_sent UNIQUE (channel_id, sender_id, client_msg_id)
)
 WITHOUT ROWID

;
INSERT INTO "events" VALUES('local_gteam',1,351980752896000,'created','u_ann','c1',1790000001000,0,1,1,NULL,NULL,NULL,NULL,'{"users":["u_ann","u_bob"],"name":"Team"}',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES('local_gteam',2,351980756992000,'message','u_ann','c2',1790000002000,0,1,1,'first',NULL,NULL,NULL,NULL,'first, mended',1790000004000,4,NULL);
INSERT INTO "events" VALUES('local_gteam',3,351980761088000,'message','u_bob','c3',1790000003000,1,1,1,'second 🙂',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES('local_gteam',4,351980765184000,'edit','u_ann','c4',1790000004000,2,1,0,'first, mended',NULL,NULL,351980756992000,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES('local_gteam',5,351980769280000,'reaction','u_bob','c5',1790000005000,2,1,0,NULL,NULL,NULL,351980756992000,'{"emoji":"👍","on":true}',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES('local_gteam',6,351980773376000,'ban','u_ann','c6',1790000006000,2,6,1,NULL,NULL,NULL,NULL,'{"users":["u_eve"]}',NULL,NULL,NULL,NULL);
CREATE TABLE friends (
	user_id TEXT NOT NULL, 
	other_id TEXT NOT NULL, 
	state TEXT NOT NULL CHECK (state IN ('requested', 'pending', 'friends')), 
	since BIGINT NOT NULL, 
	PRIMARY KEY (user_id, other_id), 
	CHECK (user_id <> other_id), 
	FOREIGN KEY(user_id) REFERENCES users (user_id), 
	FOREIGN KEY(other_id) REFERENCES users (user_id)
)
 WITHOUT ROWID

;
INSERT INTO "friends" VALUES('u_ann','u_bob','requested',5);
INSERT INTO "friends" VALUES('u_bob','u_ann','pending',5);
CREATE TABLE memberships (
	channel_id TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')), 
	joined_seq BIGINT NOT NULL, 
	from_seq BIGINT NOT NULL, 
	read_seq BIGINT DEFAULT '0' NOT NULL, 
	delivered_seq BIGINT DEFAULT '0' NOT NULL, 
	read_messages BIGINT DEFAULT '0' NOT NULL, 
	muted_until BIGINT DEFAULT '0' NOT NULL, 
	pinned BOOLEAN DEFAULT 0 NOT NULL, 
	archived BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (channel_id, user_id), 
	CHECK (read_seq >= 0 AND delivered_seq >= read_seq AND from_seq >= 0), 
	FOREIGN KEY(channel_id) REFERENCES channels (channel_id)
)
 WITHOUT ROWID

;
INSERT INTO "memberships" VALUES('local_gteam','u_ann','owner',1,0,2,2,1,0,0,0);
INSERT INTO "memberships" VALUES('local_gteam','u_bob','member',1,0,3,3,2,0,0,0);
CREATE TABLE reactions (
	channel_id TEXT NOT NULL, 
	message_id BIGINT NOT NULL, 
	emoji TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	since_seq BIGINT NOT NULL, 
	active BOOLEAN NOT NULL, 
	PRIMARY KEY (channel_id, message_id, emoji, user_id), 
	FOREIGN KEY(channel_id) REFERENCES channels (channel_id)
)
 WITHOUT ROWID

;
INSERT INTO "reactions" VALUES('local_gteam',351980756992000,'👍','u_bob',5,5,1);
CREATE TABLE refresh_tokens (
	token_hash TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	used_at BIGINT, 
	PRIMARY KEY (token_hash), 
	FOREIGN KEY(user_id) REFERENCES users (user_id), 
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
)
 WITHOUT ROWID

;
INSERT INTO "refresh_tokens" VALUES('token','u_ann','d_1',10000000000000,NULL);
CREATE TABLE schema_version (
	one INTEGER NOT NULL CHECK (one = 1), 
	version INTEGER NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "schema_version" VALUES(1,2);
CREATE TABLE subjects (
	issuer TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	PRIMARY KEY (issuer, subject), 
	FOREIGN KEY(user_id) REFERENCES users (user_id)
)
 WITHOUT ROWID

;
CREATE TABLE user_settings (
	user_id TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (user_id), 
	FOREIGN KEY(user_id) REFERENCES users (user_id)
)
 WITHOUT ROWID

;
INSERT INTO "user_settings" VALUES('u_ann',1,'{"theme":"dark"}');
CREATE TABLE users (
	user_id TEXT NOT NULL, 
	username TEXT NOT NULL, 
	username_key TEXT NOT NULL, 
	display_name TEXT NOT NULL, 
	about TEXT DEFAULT '' NOT NULL, 
	avatar_url TEXT DEFAULT '' NOT NULL, 
	created_at BIGINT NOT NULL, 
	suspended BOOLEAN DEFAULT 0 NOT NULL, 
	last_active_at BIGINT, 
	password_hash TEXT NOT NULL, 
	PRIMARY KEY (user_id), 
	UNIQUE (username_key)
)
 WITHOUT ROWID

;
INSERT INTO "users" VALUES('u_ann','Ann','ann','Ann','','',1,0,NULL,'hash');
INSERT INTO "users" VALUES('u_bob','Bob','bob','Bob','','',1,0,NULL,'hash');
CREATE UNIQUE INDEX events_listed ON events (channel_id, message_id) WHERE listed;
CREATE INDEX memberships_of_user ON memberships (user_id, archived, channel_id);
CREATE INDEX devices_of_user ON devices (user_id);
CREATE INDEX refresh_tokens_of_device ON refresh_tokens (device_id);
CREATE INDEX refresh_tokens_of_user ON refresh_tokens (user_id);
CREATE TRIGGER events_move_head AFTER INSERT ON events BEGIN
    UPDATE channels SET head_seq = NEW.seq, head_message_id = NEW.message_id,
        head_messages = NEW.messages_before + (NEW.kind = 'message'), members_seq = NEW.members_seq,
        listed_seq = CASE WHEN NEW.listed THEN NEW.seq ELSE listed_seq END
        WHERE channel_id = NEW.channel_id AND head_seq = NEW.seq - 1 AND head_message_id < NEW.message_id;
    SELECT RAISE(ABORT, 'does not follow the head of its channel') WHERE changes() = 0;
    END;
CREATE TRIGGER events_read_by_sender AFTER INSERT ON events WHEN NEW.kind = 'message' BEGIN
    UPDATE memberships SET read_seq = NEW.seq, read_messages = NEW.messages_before + 1,
        delivered_seq = MAX(delivered_seq, NEW.seq)
        WHERE channel_id = NEW.channel_id AND user_id = NEW.sender_id AND read_seq < NEW.seq;
    END;
COMMIT;
