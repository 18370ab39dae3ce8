-- Tables and functions of the store. schema.py replaces what is in double braces by names that it has checked.
--
-- A key is a string of bytes (see redicts.plugin.ordered_keys), and every scope of the contract is a range of keys. An index entry of
-- PostgreSQL holds about 2,700 bytes, and a key may be longer. So the index has the first 2,000 bytes of a key and a
-- digest of the rest, and each range has two conditions: on the indexed beginnings of its bounds, and on whole keys.
--
-- A deadline is the millisecond since the epoch from which a value is expired, or null.

CREATE SCHEMA IF NOT EXISTS {{schema}};

CREATE TABLE IF NOT EXISTS {{entries}} (key bytea NOT NULL, value bytea NOT NULL, deadline bigint);

CREATE UNIQUE INDEX IF NOT EXISTS {{prefix}}entries_key ON {{entries}} ({{unique}});

CREATE INDEX IF NOT EXISTS {{prefix}}entries_deadline ON {{entries}} (deadline) WHERE deadline IS NOT NULL;

-- The last request of each session and its outcome (RIFL: Lee et al., SOSP 2015). "touched" changes every five minutes
-- at most, so most updates of a row change no index.
CREATE TABLE IF NOT EXISTS {{sessions}} (
    session bytea PRIMARY KEY,
    number bigint NOT NULL,
    touched bigint NOT NULL,
    status text NOT NULL,
    failed_index integer,
    counters bigint[] NOT NULL,
    counts integer[] NOT NULL,
    suffixes bytea[] NOT NULL,
    stored bytea[] NOT NULL,
    ttls bigint[] NOT NULL
);

CREATE INDEX IF NOT EXISTS {{prefix}}sessions_touched ON {{sessions}} (touched);

CREATE OR REPLACE FUNCTION {{millisecond}}(stamp timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM stamp) * 1000)::bigint
$$;

-- Checks (x: equals, f: starts with) and reads (r: values, n: names), all on the snapshot of the calling statement,
-- because the function is STABLE. "instant" is the time that decides about expiry. The snapshot was taken between
-- "earliest" and "instant". If a TTL in one of the scopes ended between these, the result is "unsure".
CREATE OR REPLACE FUNCTION {{look}}(
    kinds text[], lows bytea[], highs bytea[], details bytea[], amounts bigint[],
    wanted_keys bytea[], wanted_values bytea[], earliest bigint, instant bigint,
    OUT failed_index integer, OUT counts integer[], OUT suffixes bytea[], OUT stored bytea[], OUT ttls bigint[],
    OUT unsure boolean
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    step record;
    used bigint := 0;
    holds boolean;
    size integer;
    some_keys bytea[];
    some_values bytea[];
    some_ttls bigint[];
    after bytea;
    batch bigint;
    asked bigint;
BEGIN
    counts := '{}'; suffixes := '{}'; stored := '{}'; ttls := '{}';
    FOR step IN
        SELECT * FROM unnest(kinds, lows, highs, details, amounts) WITH ORDINALITY
            AS steps (kind, low, high, detail, amount, position)
    LOOP
        IF step.kind = 'x' THEN
            IF step.amount = 0 THEN
                holds := NOT EXISTS (SELECT FROM {{entries}} WHERE {{in_range}} AND {{live}});
            ELSE
                SELECT count(*) = step.amount AND coalesce(bool_and(coalesce(e.value = w.value, false)), true)
                INTO holds
                FROM (
                    SELECT key, value FROM {{entries}} WHERE {{in_range}} AND {{live}} LIMIT step.amount + 1
                ) AS e
                LEFT JOIN unnest(
                    wanted_keys[used + 1 : used + step.amount], wanted_values[used + 1 : used + step.amount]
                ) AS w (key, value) ON w.key = e.key;
            END IF;
            used := used + step.amount;
        ELSIF step.kind = 'f' THEN
            holds := NOT EXISTS (
                SELECT FROM {{entries}}
                WHERE {{in_range}} AND {{live}} AND substring(value, 1, length(step.detail)) <> step.detail
            );
        ELSE
            IF step.kind = 'n' THEN
                -- Reads batches, and skips from the last key of a batch past all keys that begin with the same name.
                -- A batch of distinct names is followed by a larger batch, any other by a single row.
                some_keys := '{}';
                after := step.low;
                batch := 16;
                LOOP
                    asked := batch;
                    IF step.amount >= 0 THEN
                        asked := least(batch, step.amount - cardinality(some_keys));
                        EXIT WHEN asked = 0;
                    END IF;
                    SELECT count(*), coalesce(array_agg(DISTINCT name ORDER BY name), '{}') INTO size, some_values
                    FROM (
                        SELECT substring(rest, 1, position('\x00'::bytea IN rest)) AS name
                        FROM (
                            SELECT substring(key, length(step.detail) + 1) AS rest
                            FROM {{entries}}
                            WHERE {{head_of_key}} >= substring(after, 1, 2000) AND key > after
                                AND {{head_of_key}} <= substring(step.high, 1, 2000) AND key < step.high AND {{live}}
                            ORDER BY {{head_of_key}}, key
                            LIMIT asked
                        ) AS rests
                    ) AS names;
                    some_keys := some_keys || some_values;
                    EXIT WHEN size < asked;
                    batch := CASE WHEN cardinality(some_values) = size THEN least(2 * batch, 1024) ELSE 1 END;
                    after := step.detail || some_keys[cardinality(some_keys)];
                    after := substring(after, 1, length(after) - 1) || '\x01'::bytea;
                END LOOP;
                size := cardinality(some_keys);
                some_values := array_fill(''::bytea, ARRAY[size]);
                some_ttls := array_fill(NULL::bigint, ARRAY[size]);
            ELSIF step.amount < 0 THEN
                SELECT count(*), array_agg(substring(key, length(step.detail) + 1)), array_agg(value),
                    array_agg(deadline - instant)
                INTO size, some_keys, some_values, some_ttls
                FROM {{entries}} WHERE {{in_range}} AND {{live}};
            ELSE
                SELECT count(*), array_agg(substring(key, length(step.detail) + 1)), array_agg(value),
                    array_agg(deadline - instant)
                INTO size, some_keys, some_values, some_ttls
                FROM (
                    SELECT key, value, deadline FROM {{entries}} WHERE {{in_range}} AND {{live}}
                    ORDER BY {{head_of_key}}, key LIMIT step.amount
                ) AS page;
            END IF;
            counts := counts || size;
            IF size > 0 THEN
                suffixes := suffixes || some_keys;
                stored := stored || some_values;
                ttls := ttls || some_ttls;
            END IF;
            CONTINUE;
        END IF;
        IF failed_index IS NULL AND NOT holds THEN
            failed_index := step.position - 1;
        END IF;
    END LOOP;
    unsure := earliest < instant AND EXISTS (
        SELECT FROM {{entries}} AS e, unnest(lows, highs) AS scope (low, high)
        WHERE e.deadline > earliest AND e.deadline <= instant AND e.key > scope.low AND e.key < scope.high
    );
END
$$;

-- Writes (p: put, k: put and keep the TTL, d: delete, e: expire, a: add, w: notify), in order. Raises RD001, with the
-- index of the write as its detail, if the value of an Add is not a counter.
CREATE OR REPLACE FUNCTION {{apply}}(
    kinds text[], lows bytea[], highs bytea[], details bytea[], amounts bigint[],
    put_keys bytea[], put_values bytea[], put_ttls bigint[], channels text, instant bigint,
    OUT counters bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    step record;
    used bigint := 0;
    digits text;
    total numeric;
    listed bytea[];
    item bytea;
    name text;
BEGIN
    counters := '{}';
    FOR step IN
        SELECT * FROM unnest(kinds, lows, highs, details, amounts) WITH ORDINALITY
            AS steps (kind, low, high, detail, amount, position)
    LOOP
        CASE step.kind
        WHEN 'p' THEN
            INSERT INTO {{entries}} AS e (key, value, deadline)
                SELECT put.key, put.value, CASE WHEN put.ttl >= 0 THEN instant + put.ttl END
                FROM unnest(
                    put_keys[used + 1 : used + step.amount], put_values[used + 1 : used + step.amount],
                    put_ttls[used + 1 : used + step.amount]
                ) AS put (key, value, ttl)
                ON CONFLICT ({{unique}}) DO UPDATE SET value = excluded.value, deadline = excluded.deadline;
            used := used + step.amount;
        WHEN 'k' THEN
            INSERT INTO {{entries}} AS e (key, value)
                SELECT put.key, put.value
                FROM unnest(
                    put_keys[used + 1 : used + step.amount], put_values[used + 1 : used + step.amount]
                ) AS put (key, value)
                ON CONFLICT ({{unique}}) DO UPDATE SET
                    value = excluded.value, deadline = CASE WHEN e.deadline > instant THEN e.deadline END;
            used := used + step.amount;
        WHEN 'd' THEN
            DELETE FROM {{entries}} WHERE {{in_range}};
        WHEN 'e' THEN
            UPDATE {{entries}} SET deadline = CASE WHEN step.amount >= 0 THEN instant + step.amount END
                WHERE {{in_range}} AND {{live}};
        WHEN 'a' THEN
            SELECT encode(value, 'escape') INTO digits FROM {{entries}} WHERE {{in_range}} AND {{live}};
            digits := coalesce(digits, '0');
            IF digits ~ '^(0|-?[1-9][0-9]{0,18})$' THEN
                total := digits::numeric + step.amount;
            ELSE
                total := NULL;
            END IF;
            -- The stored value may be out of range although the sum is not.
            IF total IS NULL OR total NOT BETWEEN -9223372036854775808 AND 9223372036854775807
                OR digits::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807
            THEN
                RAISE EXCEPTION USING ERRCODE = 'RD001', MESSAGE = 'not a counter', DETAIL = step.position - 1;
            END IF;
            INSERT INTO {{entries}} AS e (key, value) VALUES (step.detail, convert_to(total::text, 'UTF8'))
                ON CONFLICT ({{unique}}) DO UPDATE SET
                    value = excluded.value, deadline = CASE WHEN e.deadline > instant THEN e.deadline END;
            counters := counters || total::bigint;
        WHEN 'w' THEN
            WITH gone AS (DELETE FROM {{entries}} WHERE {{in_range}} RETURNING value, deadline)
            SELECT coalesce(array_agg(DISTINCT value), '{}') INTO listed FROM gone WHERE {{live}};
            FOREACH item IN ARRAY listed LOOP
                CONTINUE WHEN length(item) > 100 OR position('\x00'::bytea IN item) > 0;
                name := convert_from(item, 'LATIN1');
                CONTINUE WHEN name !~ '^[!-.0-~]+/[!-~]+$';
                PERFORM pg_notify(
                    'redicts_' || encode(
                        substring(sha256(convert_to(channels || split_part(name, '/', 1), 'UTF8')), 1, 16), 'hex'
                    ),
                    substring(name, position('/' IN name) + 1)
                );
            END LOOP;
        END CASE;
    END LOOP;
END
$$;

-- One writing transaction. "locks" are advisory locks, in ascending order, each exclusive or shared, and held until the
-- commit. "changed" are the paths of which the listeners to changes are told. The clock is read after they are acquired, so no other transaction changes what they cover between that time
-- and the snapshot. Without locks, the isolation of the transaction must be SERIALIZABLE.
--
-- The status is one letter: A applied, C check failed, N not a counter, S stale (a later request of this session was
-- executed), U unsure (the client repeats the call; with "accept_unsure" it gets the result anyway).
CREATE OR REPLACE FUNCTION {{write}}(
    sender bytea, request bigint, locks bigint[], exclusive boolean[],
    kinds text[], lows bytea[], highs bytea[], details bytea[], amounts bigint[],
    wanted_keys bytea[], wanted_values bytea[],
    write_kinds text[], write_lows bytea[], write_highs bytea[], write_details bytea[], write_amounts bigint[],
    put_keys bytea[], put_values bytea[], put_ttls bigint[], channels text, changed text[], accept_unsure boolean,
    OUT status text, OUT failed_index integer, OUT counters bigint[],
    OUT counts integer[], OUT suffixes bytea[], OUT stored bytea[], OUT ttls bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    previous record;
    result record;
    instant bigint;
    failed_detail text;
    path text;
    locked boolean := cardinality(locks) > 0;
BEGIN
    FOR i IN 1 .. cardinality(locks) LOOP
        IF exclusive[i] THEN
            PERFORM pg_advisory_xact_lock(locks[i]);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(locks[i]);
        END IF;
    END LOOP;
    SELECT * INTO previous FROM {{sessions}} WHERE session = sender;
    IF previous.number = request THEN
        status := previous.status; failed_index := previous.failed_index; counters := previous.counters;
        counts := previous.counts; suffixes := previous.suffixes; stored := previous.stored; ttls := previous.ttls;
        RETURN;
    END IF;
    counters := '{}'; counts := '{}'; suffixes := '{}'; stored := '{}'; ttls := '{}';
    IF previous.number > request THEN
        status := 'S';
        RETURN;
    END IF;
    instant := {{millisecond}}(clock_timestamp());
    status := 'A';
    IF cardinality(kinds) > 0 THEN
        SELECT * INTO result FROM {{look}}(
            kinds, lows, highs, details, amounts, wanted_keys, wanted_values,
            CASE WHEN locked THEN instant ELSE {{millisecond}}(transaction_timestamp()) END, instant
        );
        IF result.unsure AND NOT accept_unsure THEN
            status := 'U';
            RETURN;
        END IF;
        failed_index := result.failed_index;
        counts := result.counts; suffixes := result.suffixes; stored := result.stored; ttls := result.ttls;
    END IF;
    IF failed_index IS NOT NULL THEN
        status := 'C';
    ELSIF 'a' = ANY (write_kinds) THEN
        BEGIN
            counters := {{apply}}(
                write_kinds, write_lows, write_highs, write_details, write_amounts,
                put_keys, put_values, put_ttls, channels, instant
            );
        EXCEPTION WHEN SQLSTATE 'RD001' THEN
            GET STACKED DIAGNOSTICS failed_detail = PG_EXCEPTION_DETAIL;
            status := 'N';
            failed_index := failed_detail::integer;
        END;
    ELSE
        counters := {{apply}}(
            write_kinds, write_lows, write_highs, write_details, write_amounts,
            put_keys, put_values, put_ttls, channels, instant
        );
    END IF;
    IF status = 'A' THEN
        FOREACH path IN ARRAY changed LOOP
            PERFORM pg_notify(
                'redicts_' || encode(substring(sha256(convert_to(channels || '/changes', 'UTF8')), 1, 16), 'hex'), path
            );
        END LOOP;
    END IF;
    INSERT INTO {{sessions}} AS s VALUES (sender, request, instant, status, failed_index, counters, counts, suffixes, stored, ttls)
        ON CONFLICT (session) DO UPDATE SET
            number = excluded.number,
            touched = CASE WHEN s.touched < instant - 300000 THEN instant ELSE s.touched END,
            status = excluded.status, failed_index = excluded.failed_index, counters = excluded.counters,
            counts = excluded.counts, suffixes = excluded.suffixes, stored = excluded.stored, ttls = excluded.ttls;
    -- Some expired rows, always more than this transaction can add, and sessions after their TTL.
    DELETE FROM {{entries}} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {{entries}} WHERE deadline <= instant ORDER BY deadline
        LIMIT 16 + 2 * (cardinality(put_keys) + cardinality(write_kinds)) FOR UPDATE SKIP LOCKED
    ));
    DELETE FROM {{sessions}} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {{sessions}} WHERE touched < instant - {{session_ttl}} LIMIT 4 FOR UPDATE SKIP LOCKED
    ));
END
$$;
