-- Tables and functions of the store. What stands in double braces is filled in by schema.py, from names that it checks.
--
-- A key is one string of bytes, see keys.py; every scope of the contract is one range of them. An index entry of
-- PostgreSQL holds about 2,700 bytes and a key may be longer, so the index has the first 2,000 bytes of a key and, of
-- longer ones, a digest of the rest. Each range is therefore asked for twice: by the indexed beginnings of its ends,
-- and by the keys themselves.
--
-- A deadline is the first millisecond since the epoch at which a value is gone, or null.

CREATE SCHEMA IF NOT EXISTS {{schema}};

CREATE TABLE IF NOT EXISTS {{entries}} (key bytea NOT NULL, value bytea NOT NULL, deadline bigint);

CREATE UNIQUE INDEX IF NOT EXISTS {{prefix}}entries_key ON {{entries}} ({{unique}});

CREATE INDEX IF NOT EXISTS {{prefix}}entries_deadline ON {{entries}} (deadline) WHERE deadline IS NOT NULL;

-- The last request of each session and its outcome (RIFL: Lee et al., SOSP 2015). "touched" moves in steps of minutes, so
-- that most updates of a row change no index.
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

CREATE OR REPLACE FUNCTION {{millisecond}}(moment timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM moment) * 1000)::bigint
$$;

-- Checks (x: exactly, f: prefixed) and reads (r: values, n: names), all on the snapshot of the calling statement, which
-- is what STABLE means. "instant" is the time to go by. The snapshot was taken between "earliest" and "instant"; if a
-- ttl in one of the scopes ended between these, it cannot be told whether it was over, and "unsure" is true.
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
            AS steps (kind, low, high, detail, amount, place)
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
                -- By jumping, from the last key of a batch, past all keys that begin with the same name. A batch that
                -- brought nothing but new names is followed by a larger one, any other by a single row.
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
            failed_index := step.place - 1;
        END IF;
    END LOOP;
    unsure := earliest < instant AND EXISTS (
        SELECT FROM {{entries}} AS e, unnest(lows, highs) AS scope (low, high)
        WHERE e.deadline > earliest AND e.deadline <= instant AND e.key > scope.low AND e.key < scope.high
    );
END
$$;

-- Writes (p: put, k: put and keep the ttl, d: delete, e: expire, a: add, w: wake), in order. Raises RD001, with the
-- place of the write as its detail, if an Add meets no counter.
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
            AS steps (kind, low, high, detail, amount, place)
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
            -- What was there may itself be beyond the range, and the sum not.
            IF total IS NULL OR total NOT BETWEEN -9223372036854775808 AND 9223372036854775807
                OR digits::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807
            THEN
                RAISE EXCEPTION USING ERRCODE = 'RD001', MESSAGE = 'not a counter', DETAIL = step.place - 1;
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

-- One transaction that writes. "locks" are advisory locks, in ascending order, each exclusive or shared; they are held
-- until the commit. The clock is looked at once they are held, so nobody changes what they cover between the time that
-- is gone by and the state that is decided on. Without locks, the isolation of the transaction must be SERIALIZABLE.
--
-- The status is one letter: A applied, C a check failed, N not a counter, S a later request of this session was seen,
-- U unsure, ask again.
CREATE OR REPLACE FUNCTION {{write}}(
    sender bytea, request bigint, locks bigint[], exclusive boolean[],
    kinds text[], lows bytea[], highs bytea[], details bytea[], amounts bigint[],
    wanted_keys bytea[], wanted_values bytea[],
    write_kinds text[], write_lows bytea[], write_highs bytea[], write_details bytea[], write_amounts bigint[],
    put_keys bytea[], put_values bytea[], put_ttls bigint[], channels text, resigned boolean,
    OUT status text, OUT failed_index integer, OUT counters bigint[],
    OUT counts integer[], OUT suffixes bytea[], OUT stored bytea[], OUT ttls bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    past record;
    seen record;
    instant bigint;
    place text;
    locked boolean := cardinality(locks) > 0;
BEGIN
    FOR i IN 1 .. cardinality(locks) LOOP
        IF exclusive[i] THEN
            PERFORM pg_advisory_xact_lock(locks[i]);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(locks[i]);
        END IF;
    END LOOP;
    SELECT * INTO past FROM {{sessions}} WHERE session = sender;
    IF past.number = request THEN
        status := past.status; failed_index := past.failed_index; counters := past.counters;
        counts := past.counts; suffixes := past.suffixes; stored := past.stored; ttls := past.ttls;
        RETURN;
    END IF;
    counters := '{}'; counts := '{}'; suffixes := '{}'; stored := '{}'; ttls := '{}';
    IF past.number > request THEN
        status := 'S';
        RETURN;
    END IF;
    instant := {{millisecond}}(clock_timestamp());
    status := 'A';
    IF cardinality(kinds) > 0 THEN
        SELECT * INTO seen FROM {{look}}(
            kinds, lows, highs, details, amounts, wanted_keys, wanted_values,
            CASE WHEN locked THEN instant ELSE {{millisecond}}(transaction_timestamp()) END, instant
        );
        IF seen.unsure AND NOT resigned THEN
            status := 'U';
            RETURN;
        END IF;
        failed_index := seen.failed_index;
        counts := seen.counts; suffixes := seen.suffixes; stored := seen.stored; ttls := seen.ttls;
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
            GET STACKED DIAGNOSTICS place = PG_EXCEPTION_DETAIL;
            status := 'N';
            failed_index := place::integer;
        END;
    ELSE
        counters := {{apply}}(
            write_kinds, write_lows, write_highs, write_details, write_amounts,
            put_keys, put_values, put_ttls, channels, instant
        );
    END IF;
    INSERT INTO {{sessions}} AS l VALUES (sender, request, instant, status, failed_index, counters, counts, suffixes, stored, ttls)
        ON CONFLICT (session) DO UPDATE SET
            number = excluded.number,
            touched = CASE WHEN l.touched < instant - 300000 THEN instant ELSE l.touched END,
            status = excluded.status, failed_index = excluded.failed_index, counters = excluded.counters,
            counts = excluded.counts, suffixes = excluded.suffixes, stored = excluded.stored, ttls = excluded.ttls;
    -- Some of what has expired, always more than this transaction can have added; and sessions that nobody used for hours.
    DELETE FROM {{entries}} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {{entries}} WHERE deadline <= instant ORDER BY deadline
        LIMIT 16 + 2 * (cardinality(put_keys) + cardinality(write_kinds)) FOR UPDATE SKIP LOCKED
    ));
    DELETE FROM {{sessions}} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {{sessions}} WHERE touched < instant - {{forgotten_after}} LIMIT 4 FOR UPDATE SKIP LOCKED
    ));
END
$$;
