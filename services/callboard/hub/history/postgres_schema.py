"""What the history is in PostgreSQL: tables, and the functions that change them.

All is in the schema `callboard_hub`. Whoever changes the history locks the one row of `state`
first, until the commit: so commits have the order of offsets, and nobody reads a later offset
before an earlier one. A change is one call of a function, one round trip: the lock never waits for
the network.
Topics stand in one text, one a line (a topic has no control characters).
"""

from __future__ import annotations

FORMAT = 1
CHANNEL = "callboard_hub"
"""NOTIFY: the head after a batch, or nothing after a purge. A hint; nothing depends on it."""
LOCK = 0x63616C6C_68756231
"""Advisory: who makes the schema."""

CREATE = f"""
CREATE TABLE callboard_hub.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    format integer NOT NULL,
    head bigint NOT NULL,
    oldest bigint NOT NULL,
    time_ms bigint NOT NULL,
    purges bigint NOT NULL,
    lineage text NOT NULL,
    epoch text NOT NULL,
    prefixes text[] NOT NULL
) WITH (fillfactor = 10);
COMMENT ON COLUMN callboard_hub.state.lineage IS
    'server, timeline and table: another one means restored, or another server was promoted';
INSERT INTO callboard_hub.state VALUES (true, {FORMAT}, 0, 1, 0, 0, '', '', '{{""}}');

CREATE TABLE callboard_hub.epochs (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    first bigint NOT NULL
);

CREATE TABLE callboard_hub.updates (
    "offset" bigint PRIMARY KEY,
    time_ms bigint NOT NULL,
    prefix text COLLATE "C" NOT NULL,
    topics text NOT NULL,
    data bytea NOT NULL,
    type text NOT NULL,
    own_id text COLLATE "C" NOT NULL,
    private boolean NOT NULL,
    retry_ms integer,
    size bigint NOT NULL
);
CREATE INDEX updates_time ON callboard_hub.updates (time_ms, "offset");
CREATE INDEX updates_prefix ON callboard_hub.updates (prefix, "offset");
CREATE INDEX updates_own_id ON callboard_hub.updates (own_id, "offset") WHERE own_id <> '';

CREATE TABLE callboard_hub.topics (
    topic text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (topic, "offset")
);

CREATE TABLE callboard_hub.prefixes (
    prefix text COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL,
    bytes bigint NOT NULL,
    trimmed bigint NOT NULL
) WITH (fillfactor = 50);

INSERT INTO callboard_hub.prefixes VALUES ('', 0, 0, 0);

CREATE TABLE callboard_hub.keys (
    key text COLLATE "C" PRIMARY KEY,
    "offset" bigint NOT NULL,
    time_ms bigint NOT NULL,
    own_id text NOT NULL
);
CREATE INDEX keys_offset ON callboard_hub.keys ("offset");

CREATE TABLE callboard_hub.writers (
    writer text PRIMARY KEY,
    batch bigint NOT NULL,
    former_head bigint NOT NULL,
    time_ms bigint NOT NULL,
    offsets bigint[] NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE callboard_hub.writers IS
    'the last batch of each hub: one that is sent again, its answer lost, gets the same answer';

CREATE TABLE callboard_hub.purges (
    number bigint PRIMARY KEY,
    topic text NOT NULL,
    through bigint NOT NULL
);
"""

PREFIX_OF = """
CREATE FUNCTION callboard_hub.prefix_of(topic_ text, known_ text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT k.prefix FROM unnest(known_) k(prefix) WHERE starts_with(topic_, k.prefix)
    ORDER BY length(k.prefix) DESC LIMIT 1
$$;
"""

APPEND = f"""
CREATE FUNCTION callboard_hub.append(
    writer_ text, batch_ bigint, now_ bigint, topics_ text[], data_ bytea[], types_ text[],
    own_ids_ text[], privates_ boolean[], retries_ integer[], keys_ text[], prefixes_ text[],
    sizes_ bigint[], keys_count_ bigint, keys_age_ms_ bigint
) RETURNS TABLE (epoch text, fresh boolean, "offset" bigint, time_ms bigint, own_id text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    epoch_ text;
    head_ bigint;
    time_ bigint;
    fresh_ bigint;
    offsets_ bigint[];
    last_ record;
BEGIN
    SELECT s.epoch, s.head, greatest(s.time_ms, now_) INTO STRICT epoch_, head_, time_
    FROM callboard_hub.state s FOR UPDATE;
    SELECT * INTO last_ FROM callboard_hub.writers w WHERE w.writer = writer_;
    IF last_.batch > batch_ THEN
        RAISE 'batch % of % was given up', batch_, writer_;
    ELSIF last_.batch = batch_ THEN
        head_ := last_.former_head;
        time_ := last_.time_ms;
        offsets_ := last_.offsets;
    ELSE
        SELECT array_agg(coalesce(n.known, head_ + n.nth) ORDER BY n.place), max(n.nth)
        INTO STRICT offsets_, fresh_
        FROM (
            SELECT g.place, k."offset" AS known,
                   count(*) FILTER (WHERE k."offset" IS NULL) OVER (ORDER BY g.place) AS nth
            FROM unnest(keys_) WITH ORDINALITY g(key, place)
            LEFT JOIN callboard_hub.keys k ON k.key = g.key AND g.key <> ''
                AND k."offset" > head_ - keys_count_ AND k.time_ms >= time_ - keys_age_ms_
        ) n;
        INSERT INTO callboard_hub.updates
        SELECT g."offset", time_, g.prefix, g.topics, g.data, g.type, g.own_id, g.private,
               g.retry_ms, g.size
        FROM unnest(offsets_, prefixes_, topics_, data_, types_, own_ids_, privates_, retries_,
                    sizes_) g("offset", prefix, topics, data, type, own_id, private, retry_ms, size)
        WHERE g."offset" > head_;
        INSERT INTO callboard_hub.topics
        SELECT t.topic, g."offset"
        FROM unnest(offsets_, topics_) g("offset", topics),
             LATERAL unnest(string_to_array(g.topics, E'\\n')) t(topic)
        WHERE g."offset" > head_
        ON CONFLICT DO NOTHING;
        INSERT INTO callboard_hub.keys
        SELECT g.key, g."offset", time_, g.own_id
        FROM unnest(keys_, offsets_, own_ids_) g(key, "offset", own_id)
        WHERE g.key <> '' AND g."offset" > head_
        ON CONFLICT (key) DO UPDATE SET
            "offset" = excluded."offset", time_ms = excluded.time_ms, own_id = excluded.own_id;
        -- one that is new here may have been trimmed of under another, by a hub that knows others
        INSERT INTO callboard_hub.prefixes AS p
        SELECT g.prefix, count(*), sum(g.size),
               (SELECT coalesce(max(r.trimmed), 0) FROM callboard_hub.prefixes r
                WHERE starts_with(g.prefix, r.prefix) OR starts_with(r.prefix, g.prefix))
        FROM unnest(offsets_, prefixes_, sizes_) g("offset", prefix, size)
        WHERE g."offset" > head_ GROUP BY g.prefix
        ON CONFLICT (prefix) DO UPDATE SET
            count = p.count + excluded.count, bytes = p.bytes + excluded.bytes;
        UPDATE callboard_hub.state SET head = head_ + fresh_, time_ms = time_;
        INSERT INTO callboard_hub.writers VALUES (writer_, batch_, head_, time_, offsets_)
        ON CONFLICT (writer) DO UPDATE SET
            batch = excluded.batch, former_head = excluded.former_head,
            time_ms = excluded.time_ms, offsets = excluded.offsets;
        PERFORM pg_notify('{CHANNEL}', (head_ + fresh_)::text);
    END IF;
    RETURN QUERY
    SELECT epoch_, g."offset" > head_, g."offset",
           CASE WHEN g."offset" > head_ THEN time_ ELSE k.time_ms END,
           CASE WHEN g."offset" > head_ THEN g.own_id ELSE k.own_id END
    FROM unnest(offsets_, keys_, own_ids_) WITH ORDINALITY g("offset", key, own_id, place)
    LEFT JOIN callboard_hub.keys k ON k.key = g.key AND g."offset" <= head_
    ORDER BY g.place;
END
$$;
"""

TRIM = """
CREATE FUNCTION callboard_hub.trim(
    known_ text[], counts_ bigint[], bytes_ bigint[], since_ bigint[],
    keys_count_ bigint, keys_since_ bigint, slice_ integer
) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    b record;
    gone_ record;
    more_ boolean := false;
    all_ text[] := ARRAY (SELECT p.prefix FROM callboard_hub.prefixes p);
BEGIN
    -- what comes back after a crash is trimmed again
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM 1 FROM callboard_hub.state FOR UPDATE;
    FOR b IN
        SELECT p.prefix, p.count - k.count AS count, p.bytes - k.bytes AS bytes, k.since
        FROM callboard_hub.prefixes p
        JOIN unnest(known_, counts_, bytes_, since_) k(prefix, count, bytes, since)
            ON k.prefix = CASE WHEN p.prefix = ANY (known_) THEN p.prefix ELSE '' END
    LOOP
        WITH first AS (
            SELECT u."offset", u.time_ms, u.size FROM callboard_hub.updates u
            WHERE u.prefix = b.prefix ORDER BY u."offset" LIMIT slice_
        ), running AS (
            SELECT f.*, row_number() OVER w AS nth, sum(f.size) OVER w - f.size AS before
            FROM first f WINDOW w AS (ORDER BY f."offset")
        ), gone AS (
            DELETE FROM callboard_hub.updates u USING running r
            WHERE u."offset" = r."offset"
                AND (r.nth <= b.count OR r.before < b.bytes OR r.time_ms < b.since)
            RETURNING u."offset", u.topics, u.size
        ), named AS (
            SELECT t.topic, g."offset"
            FROM gone g, LATERAL unnest(string_to_array(g.topics, E'\\n')) t(topic)
        ), unnamed AS (
            DELETE FROM callboard_hub.topics x USING named n
            WHERE x.topic = n.topic AND x."offset" = n."offset"
        ), marked AS (
            INSERT INTO callboard_hub.prefixes AS p
            SELECT k.prefix, 0, 0, max(n."offset")
            FROM named n, LATERAL (
                SELECT callboard_hub.prefix_of(n.topic, known_)
                UNION SELECT callboard_hub.prefix_of(n.topic, all_)
            ) k(prefix)
            GROUP BY k.prefix
            ON CONFLICT (prefix) DO UPDATE SET trimmed = greatest(p.trimmed, excluded.trimmed)
        )
        SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes INTO gone_ FROM gone;
        UPDATE callboard_hub.prefixes p
        SET count = p.count - gone_.count, bytes = p.bytes - gone_.bytes
        WHERE p.prefix = b.prefix AND gone_.count > 0;
        more_ := more_ OR gone_.count >= slice_;
    END LOOP;
    WITH first AS (
        SELECT k.key, k."offset", k.time_ms FROM callboard_hub.keys k
        ORDER BY k."offset" LIMIT slice_
    ), gone AS (
        DELETE FROM callboard_hub.keys k USING first f, callboard_hub.state s
        WHERE k.key = f.key AND (f."offset" <= s.head - keys_count_ OR f.time_ms < keys_since_)
        RETURNING 1
    )
    SELECT more_ OR count(*) >= slice_ INTO more_ FROM gone;
    -- hubs that ended a week ago send nothing again
    DELETE FROM callboard_hub.writers w USING callboard_hub.state s
    WHERE w.time_ms < s.time_ms - 7 * 86400000;
    PERFORM callboard_hub.find_oldest();
    RETURN more_;
END
$$;
"""

FIND_OLDEST = """
CREATE FUNCTION callboard_hub.find_oldest() RETURNS void
LANGUAGE sql AS $$
    WITH kept AS (
        SELECT coalesce(min(u."offset"), (SELECT head + 1 FROM callboard_hub.state)) AS oldest
        FROM callboard_hub.updates u
        WHERE u."offset" >= (SELECT oldest FROM callboard_hub.state)
    )
    UPDATE callboard_hub.state s SET oldest = kept.oldest FROM kept WHERE s.oldest <> kept.oldest
$$;
"""

PURGE = f"""
CREATE FUNCTION callboard_hub.purge(topic_ text, through_ bigint, slice_ integer) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    count_ bigint;
    number_ bigint;
BEGIN
    PERFORM 1 FROM callboard_hub.state FOR UPDATE;
    WITH wanted AS (
        SELECT x."offset" FROM callboard_hub.topics x
        WHERE x.topic = topic_ AND x."offset" <= through_ ORDER BY x."offset" LIMIT slice_
    ), gone AS (
        DELETE FROM callboard_hub.updates u USING wanted w WHERE u."offset" = w."offset"
        RETURNING u."offset", u.topics, u.prefix, u.size
    ), unnamed AS (
        DELETE FROM callboard_hub.topics x
        USING gone g, LATERAL unnest(string_to_array(g.topics, E'\\n')) t(topic)
        WHERE x.topic = t.topic AND x."offset" = g."offset"
    ), counted AS (
        UPDATE callboard_hub.prefixes p SET count = p.count - g.count, bytes = p.bytes - g.bytes
        FROM (SELECT prefix, count(*) AS count, sum(size) AS bytes FROM gone GROUP BY prefix) g
        WHERE p.prefix = g.prefix
    )
    SELECT count(*) INTO count_ FROM gone;
    IF count_ > 0 THEN
        UPDATE callboard_hub.state SET purges = purges + 1 RETURNING purges INTO number_;
        INSERT INTO callboard_hub.purges VALUES (number_, topic_, through_);
        DELETE FROM callboard_hub.purges p WHERE p.number <= number_ - 1000;
        PERFORM callboard_hub.find_oldest();
        PERFORM pg_notify('{CHANNEL}', '');
    END IF;
    RETURN count_;
END
$$;
"""

CLASSIFY = """
CREATE FUNCTION callboard_hub.classify(known_ text[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    former_ text[];
BEGIN
    SELECT s.prefixes INTO STRICT former_ FROM callboard_hub.state s FOR UPDATE;
    IF former_ = known_ THEN
        RETURN;
    END IF;
    UPDATE callboard_hub.updates u SET prefix = n.prefix
    FROM (
        SELECT v."offset",
               callboard_hub.prefix_of(split_part(v.topics, E'\\n', 1), known_) AS prefix
        FROM callboard_hub.updates v
    ) n
    WHERE u."offset" = n."offset" AND u.prefix <> n.prefix;
    WITH formerly AS (
        SELECT p.prefix, p.trimmed FROM callboard_hub.prefixes p
    ), kept AS (
        SELECT u.prefix, count(*) AS count, sum(u.size) AS bytes
        FROM callboard_hub.updates u GROUP BY u.prefix
    ), now AS (
        -- a topic's updates were trimmed under its former prefix: the new one takes that over
        SELECT k.prefix, coalesce(max(f.trimmed), 0) AS trimmed
        FROM unnest(known_) k(prefix)
        LEFT JOIN formerly f ON f.prefix = k.prefix
            OR (k.prefix <> ALL (former_)
                AND f.prefix = callboard_hub.prefix_of(k.prefix, former_))
            OR (f.prefix <> ALL (known_)
                AND k.prefix = callboard_hub.prefix_of(f.prefix, known_))
        GROUP BY k.prefix
    )
    INSERT INTO callboard_hub.prefixes
    SELECT n.prefix, coalesce(k.count, 0), coalesce(k.bytes, 0), n.trimmed
    FROM now n LEFT JOIN kept k ON k.prefix = n.prefix
    ON CONFLICT (prefix) DO UPDATE SET
        count = excluded.count, bytes = excluded.bytes, trimmed = excluded.trimmed;
    DELETE FROM callboard_hub.prefixes p WHERE p.prefix <> ALL (known_);
    UPDATE callboard_hub.state SET prefixes = known_;
END
$$;
"""

JOIN = """
CREATE FUNCTION callboard_hub.join(
    lineage_ text, new_epoch_ text, told_ bigint, keep_ integer
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    head_ bigint;
    lineage_before_ text;
BEGIN
    SELECT s.head, s.lineage INTO STRICT head_, lineage_before_
    FROM callboard_hub.state s FOR UPDATE;
    IF lineage_before_ <> lineage_ OR head_ < told_ THEN
        INSERT INTO callboard_hub.epochs (name, first) VALUES (new_epoch_, head_ + 1);
        DELETE FROM callboard_hub.epochs e WHERE e.number NOT IN (
            SELECT l.number FROM callboard_hub.epochs l ORDER BY l.number DESC LIMIT keep_);
        UPDATE callboard_hub.state SET lineage = lineage_, epoch = new_epoch_;
    END IF;
END
$$;
"""

SCHEMA = (CREATE, PREFIX_OF, APPEND, FIND_OLDEST, TRIM, PURGE, CLASSIFY, JOIN)
"""What makes it, in order."""

# not to_regclass: what it remembers from before the advisory lock may be out of date
HAS_SCHEMA = "SELECT count(*) FROM pg_namespace WHERE nspname = 'callboard_hub'"
HAS_TABLES = """
SELECT count(*) FROM pg_tables WHERE schemaname = 'callboard_hub' AND tablename = 'state'
"""

LINEAGE = """
SELECT system_identifier || '.' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
    || '.' || 'callboard_hub.state'::regclass::oid
FROM pg_control_system()
"""
"""Which history of which server this is. Each promotion and each recovery to a point in time has
another timeline, each restored dump another table."""

ROW = '"offset", time_ms, topics, data, type, own_id, private, retry_ms'

PAGE = f"""
SELECT 0::bigint AS "offset", s.oldest AS time_ms,
       (SELECT jsonb_object_agg(p.prefix, p.trimmed) FROM callboard_hub.prefixes p)::text AS topics,
       convert_to(s.epoch, 'UTF8') AS data, s.purges::text AS type, s.head::text AS own_id,
       false AS private, NULL::integer AS retry_ms
FROM callboard_hub.state s
UNION ALL
SELECT {ROW} FROM (
    SELECT u.*, sum(u.size) OVER (ORDER BY u."offset") AS through
    FROM (SELECT * FROM callboard_hub.updates WHERE "offset" > %(after)s
          ORDER BY "offset" LIMIT %(count)s) u
) v WHERE v.through <= %(bytes)s OR v.through = v.size
"""
"""One row with the standing (oldest, what was trimmed, epoch, purges, head), whose offset is 0, and
the updates: one statement, one snapshot."""

NEWEST = f"""
SELECT {ROW} FROM (
    SELECT u.*, sum(u.size) OVER (ORDER BY u."offset" DESC) AS through
    FROM (SELECT * FROM callboard_hub.updates ORDER BY "offset" DESC LIMIT %(count)s) u
) v WHERE v.through <= %(bytes)s
ORDER BY "offset"
"""

HEADERS = """
SELECT "offset", topics, private FROM callboard_hub.updates
WHERE "offset" < %(before)s ORDER BY "offset" DESC LIMIT %(count)s
"""

HEADERS_OF = """
SELECT u."offset", u.topics, u.private FROM (
    SELECT DISTINCT x."offset" FROM unnest(%(topics)s::text[]) t(topic),
        LATERAL (SELECT "offset" FROM callboard_hub.topics
                 WHERE topic = t.topic AND "offset" < %(before)s
                 ORDER BY "offset" DESC LIMIT %(count)s) x
    ORDER BY x."offset" DESC LIMIT %(count)s
) w JOIN callboard_hub.updates u USING ("offset") ORDER BY u."offset" DESC
"""

CALL_APPEND = """
SELECT * FROM callboard_hub.append(
    %(writer)s, %(batch)s::bigint, %(now)s::bigint, %(topics)s::text[], %(data)s::bytea[],
    %(types)s::text[], %(own_ids)s::text[], %(privates)s::boolean[], %(retries)s::integer[],
    %(keys)s::text[], %(prefixes)s::text[], %(sizes)s::bigint[], %(keys_count)s::bigint,
    %(keys_age_ms)s::bigint)
"""

CALL_TRIM = """
SELECT callboard_hub.trim(
    %(known)s::text[], %(counts)s::bigint[], %(bytes)s::bigint[], %(since)s::bigint[],
    %(keys_count)s::bigint, %(keys_since)s::bigint, %(slice)s::integer)
"""

KEPT = """
WITH kept AS (
    SELECT p.prefix, coalesce(
        (SELECT min(u."offset") FROM callboard_hub.updates u WHERE u.prefix = p.prefix),
        (SELECT head + 1 FROM callboard_hub.state)) AS first
    FROM callboard_hub.prefixes p
)
SELECT jsonb_object_agg(k.prefix,
    (SELECT min(s.first) FROM kept s WHERE starts_with(k.prefix, s.prefix)))::text
FROM kept k
"""
"""By prefix, below which offset nothing is there: one statement, one snapshot. A hub that does not
know a prefix puts its updates under a shorter one: what that one has may be this one's."""

PURGES = """
SELECT topic, through FROM callboard_hub.purges
WHERE number > %(after)s AND number <= %(last)s ORDER BY number
"""

FIND = """
SELECT min("offset") FROM callboard_hub.updates WHERE own_id = %(own_id)s AND own_id <> ''
"""

AT_TIME = """
SELECT coalesce(
    (SELECT "offset" FROM callboard_hub.updates WHERE time_ms >= %(time_ms)s
     ORDER BY time_ms, "offset" LIMIT 1),
    (SELECT head + 1 FROM callboard_hub.state))
"""
