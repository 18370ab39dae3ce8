-- Executes one minitransaction on the layout that layout.py describes. The meaning of every step is that of
-- redicts/core/minitransaction.py. Nothing here knows what values are used for.
--
-- This text is the values of the tree and what all parts share. records.lua and request.lua follow it. functions.py makes
-- one source of them, which a server loads as a library, or runs as a script with each call.
--
-- A library makes its functions once, and they outlive the call. A script makes those that it passes in each call, which
-- costs more than most commands do. So what only some calls need is made by a function of its own when it is needed.

-- Of Lua's own functions. They are not there yet while a library is loaded, so the first call sets them.
local byte, sub, find, match, gsub, format

local DIRECTORY = '\1'
-- The digits of a deadline: of what has none in a record space, and of a document that has none.
local NEVER, NO_DEADLINE = '9999999999999999', '0000000000000000'
-- Stands for a field that was not read, because it is too long for a directory. Its TTL is to be removed, if it has one.
local LONG, LONG_BYTES = '\5' .. NEVER, 100
local TOO_MANY = {}

-- The state of one call, which begin() sets. It is all that changes in here, so a call that ends by an error leaves
-- nothing to the next one.
local call, args, expiries, session
-- The clock, once it was read: the millisecond since the epoch as 16 digits, and as a number once that was needed.
local clock_text, clock
-- How many fields this call may touch, and how many it has.
local most, touched
-- The number of changes of the tree. What was read when it was the same is still so.
local changes
-- The number of TTLs that were set: that many more fields may have expired at the next sweep.
local given
-- The document that is to be split before the call can be carried out: how the call ends then.
local in_the_way
-- What the index of TTLs says to be removed, if the call sweeps.
local due
-- The indices of the writes that are no Adds, and by key that of the last Add, up to a write: most Adds follow Adds.
local others, added, added_upto
-- The same of records: of removals, and by record that of the last Put or Add.
local removals, latest, latest_upto
-- Whether a write of values was prepared.
local has_prepared
-- The field that a check has found, its directory and its name.
local checked_dir, checked_name, checked_field
-- Of record spaces: the one that was asked last, the last record that was, what was found, and the spaces with changes.
local record_set, last_set, last_path, last_found, changed_sets
-- By record space the path below which a check has found no record.
local empty_below
-- Numbers by their texts, texts by their numbers, and how many of them. They outlive the call: they stay true.
local numbers, texts, remembered = {}, {}, 0

-- The clock as text. Comparing 16 digits is a tenth of the work of making numbers of them.
local function moment()
  if not clock_text then
    local time = call('TIME')
    clock_text = '000' .. time[1] .. sub('00000' .. time[2], -6, -4)
  end
  return clock_text
end

local function now()
  if not clock then clock = tonumber(moment()) end
  return clock
end

local function remember(key, value, map)
  if remembered >= 2000 then numbers, texts, remembered = {}, {}, 0 end
  map[key], remembered = value, remembered + 1
  return value
end

-- The number that a text says, or nil.
local function number_of(text)
  local number = numbers[text]
  if number then return number end
  number = tonumber(text)
  return number and #text <= 5 and remember(text, number, numbers) or number
end

-- The text of a whole number, which takes a fourth of the time that Lua's own conversion does.
local function text_of(number)
  return texts[number] or number < 1e5 and remember(number, format('%d', number), texts) or format('%d', number)
end

local function begin(given_args)
  if not byte then
    byte, sub, find, match, gsub = string.byte, string.sub, string.find, string.match, string.gsub
    format = string.format
  end
  call, args = redis.call, given_args
  expiries, session, most = args[1], args[2], number_of(args[4])
  clock, clock_text, touched, changes, given, due = nil, nil, 0, 0, 0, nil
  others, added, added_upto, has_prepared, removals, latest, latest_upto = nil, nil, 0, false, nil, nil, 0
  record_set, last_set, last_path, last_found, changed_sets, empty_below = nil, nil, nil, nil, nil, nil
  in_the_way, checked_dir = nil, nil
end

local function touch(count)
  touched = touched + count
  if touched > most then error(TOO_MANY) end
end

-- Names and fields -----------------------------------------------------------------------------------------------

local function escape(character) return format('%%%02X', byte(character)) end
local function unescape(digits) return string.char(tonumber(digits, 16)) end

local function escaped(name)
  if not find(name, '[%%%.:{}%z]') then return name end
  return (gsub(name, '[%%%.:{}%z]', escape))
end

local function unescaped(name)
  if not find(name, '%', 1, true) then return name end
  return (gsub(name, '%%(%x%x)', unescape))
end

-- The hash that a directory has its marker in, and the name of that; nil for the root of a space.
local function split(dir)
  local parent, name = match(dir, '^(.*)%.([^.:]*)$')
  return parent, parent and unescaped(name)
end

local function deadline_of(field)
  local first = byte(field)
  local deadline = (first == 2 or first == 5) and tonumber(sub(field, 2, 17)) or 0
  return deadline > 0 and deadline or nil
end

-- The value in a field, or nil for a directory, for a document and for a value that has expired.
local function live(field)
  local first = byte(field)
  if not first or first > 5 or first == 4 or first == 0 then return field end
  if first == 3 then return sub(field, 2) end
  if first == 2 and sub(field, 2, 17) > moment() then return sub(field, 18) end
  return nil
end

-- Whether a field is a document that has not expired.
local function is_document(field)
  if byte(field) ~= 5 then return false end
  local deadline = deadline_of(field)
  return not deadline or deadline > now()
end

-- The number of leaves in a document.
local function leaves_in(field) return tonumber(sub(field, 18, 21)) end

-- Whether { name, field, ... }, or with step 1 { field, ... }, has values only, without TTLs and escapes.
local function is_plain(items, step)
  step = step or 2
  for i = step, #items, step do
    local first = byte(items[i])
    if first and first <= 5 and first >= 1 and first ~= 4 then return false end
  end
  return true
end

-- The live value under a name of a directory, and the field that it is kept in.
local function value_at(parent, name)
  local field = call('HGET', parent, name)
  return field and live(field) or nil, field
end

-- The same of exactly this key.
local function leaf(dir)
  local parent, name = split(dir)
  if not parent then return nil end
  return value_at(parent, name)
end

-- Documents ------------------------------------------------------------------------------------------------------

-- The document in which a directory is that has no hash, or that is in its place: where that is, and its field.
local function document_of(dir)
  repeat
    local parent, name = split(dir)
    if not parent then return nil end
    local field = call('HGET', parent, name)
    if field then
      if is_document(field) then return dir, field end
      return nil
    end
    dir = parent
  until call('HLEN', dir) > 0
  return nil
end

-- Ends the call, so that the client splits a document and sends the call again.
local function demand_split(place, field)
  in_the_way = { 'D', place, field }
  error(in_the_way)
end

-- Demands the split of the document in which a directory is, if it is in one.
local function leave_document(dir)
  if call('HLEN', dir) > 0 then return end
  local place, field = document_of(dir)
  if place then demand_split(place, field) end
end

-- Calls visit(directory, fields, plain) for every hash at and below a directory, until that returns true. Counts the
-- fields as touched.
local function each_hash(dir, visit)
  local pending = { dir }
  while #pending > 0 do
    local at = table.remove(pending)
    local count = call('HLEN', at)
    if count > 0 then
      touch(count)
      local fields = call('HGETALL', at)
      local plain = is_plain(fields)
      if visit(at, fields, plain) then return true end
      if not plain then
        for i = 2, #fields, 2 do
          if fields[i] == DIRECTORY then pending[#pending + 1] = at .. '.' .. escaped(fields[i - 1]) end
        end
      end
    end
  end
  return false
end

-- The answer that is one value, or none.
local function answer_of(value, field, with_ttls)
  if not value then return { '' } end
  local deadline = with_ttls and deadline_of(field)
  return { '', '=', value, deadline and deadline - now() or '' }
end

-- Reading and checking -------------------------------------------------------------------------------------------

-- Functions that reading() makes.
local read, names, all_start, are_exactly

local function reading()
  -- Adds a document to an answer: the suffix of its place, its text, its remaining TTL. The place of a document above
  -- the directory that is read begins with '^', and the rest leads from it to the directory. Returns its leaves' number.
  local function emit_document(answer, dir, place, field, with_ttls)
    local size, deadline = #answer, with_ttls and deadline_of(field)
    answer[size + 1] = #place < #dir and '^' .. sub(dir, #place + 1) or sub(place, #dir + 1)
    answer[size + 2], answer[size + 3] = sub(field, 22), deadline and deadline - now() or ''
    return leaves_in(field)
  end

  -- Adds the live values of a hash to an answer: suffix, { name, value, ... }, { name, remaining TTL, ... }. Adds its
  -- documents too, as far as there is room for their leaves. The other ones become pending.
  local function emit(answer, suffix, fields, plain, with_ttls, dir, room, pending)
    local kept, ttls, documents = fields, '', {}
    if not plain then
      kept = {}
      if with_ttls then ttls = {} end
      for i = 1, #fields, 2 do
        local value = live(fields[i + 1])
        if value then
          kept[#kept + 1], kept[#kept + 2] = fields[i], value
          local deadline = with_ttls and deadline_of(fields[i + 1])
          if deadline then ttls[#ttls + 1], ttls[#ttls + 2] = fields[i], deadline - now() end
        elseif is_document(fields[i + 1]) then
          documents[#documents + 1] = i
        end
      end
    end
    local size, found = #answer, #kept / 2
    if #kept > 0 then answer[size + 1], answer[size + 2], answer[size + 3] = suffix, kept, ttls end
    for _, i in ipairs(documents) do
      local below = suffix .. '.' .. escaped(fields[i])
      if not room then touch(leaves_in(fields[i + 1]) - 1) end
      if not room or found + leaves_in(fields[i + 1]) <= room then
        found = found + emit_document(answer, dir, dir .. below, fields[i + 1], with_ttls)
      else
        pending[#pending + 1], pending[#pending + 2] = below, '0'
      end
    end
    return found
  end

  -- The first element of an answer is its cursor: suffix and scan position of every hash that is still to be read,
  -- separated by NUL. A small hash is read whole, a large one piece by piece.
  function read(dir, scope, limit, with_ttls, pending)
    local PIECE, SMALL = 200, 1000
    local answer = { '' }
    if #pending == 0 then
      local parent, name = split(dir)
      local field = parent and call('HGET', parent, name)
      local value = field and scope ~= '>' and live(field)
      if value then return answer_of(value, field, with_ttls) end
      -- Only the marker of a directory leads further down.
      if parent and field ~= DIRECTORY then
        if not field or scope ~= '=' and is_document(field) then
          local place, document = document_of(dir)
          if place then emit_document(answer, dir, place, document, with_ttls) end
        end
        return answer
      end
      if scope == '=' then return answer end
      if not limit then
        each_hash(dir, function(at, fields, plain)
          emit(answer, sub(at, #dir + 1), fields, plain, with_ttls, dir)
        end)
        return answer
      end
      pending = { '', '0' }
    end
    local room, found, looked = math.max(limit, SMALL), 0, 0
    while #pending > 0 and found < limit and looked < most do
      local suffix, scan = pending[#pending - 1], pending[#pending]
      local at = dir .. suffix
      local size, fields, place, document = call('HLEN', at), nil, nil, nil
      if size == 0 then
        place, document = document_of(at)
        if place then size = leaves_in(document) end
      end
      if found > 0 and found + (place and size or math.min(size, 2 * PIECE)) > room then break end
      if place then
        scan, fields, found = '0', {}, found + emit_document(answer, dir, place, document, with_ttls)
      elseif scan == '0' and size <= room - found then
        fields = call('HGETALL', at)
      else
        local piece = call('HSCAN', at, scan, 'COUNT', PIECE)
        scan, fields = piece[1], piece[2]
      end
      if scan == '0' then
        pending[#pending], pending[#pending - 1] = nil, nil
      else
        pending[#pending] = scan
      end
      local plain = is_plain(fields)
      if not plain then
        for i = 2, #fields, 2 do
          if fields[i] == DIRECTORY then
            pending[#pending + 1], pending[#pending + 2] = suffix .. '.' .. escaped(fields[i - 1]), '0'
          end
        end
      end
      looked = looked + #fields / 2 + 1
      found = found + emit(answer, suffix, fields, plain, with_ttls, dir, room - found, pending)
    end
    if #pending > 0 then answer[1] = table.concat(pending, '\0') end
    return answer
  end

  -- Returns { cursor, { name, ... } }, or the answer that is the document in which the names are. A name counts if a live
  -- value is at it or below. If nothing expired, all do.
  function names(dir, limit, scan)
    local PIECE, SMALL = 200, 1000
    local due = #call('ZRANGEBYSCORE', expiries, '-inf', moment(), 'LIMIT', '0', '1') > 0
    local size = call('HLEN', dir)
    if size == 0 then
      local place, document = document_of(dir)
      local answer = { '' }
      if place then
        emit_document(answer, dir, place, document)
        return answer
      end
    end
    local whole = not limit or scan == '0' and size <= math.max(limit, SMALL)
    if not limit then touch(size) end
    if whole and not due then return { '', call('HKEYS', dir) } end
    local found, looked = {}, 0
    local function counts(name, field)
      if not due or live(field) or is_document(field) then return true end
      return field == DIRECTORY and each_hash(dir .. '.' .. escaped(name), function(_, fields)
        for i = 2, #fields, 2 do
          if live(fields[i]) or is_document(fields[i]) then return true end
        end
      end)
    end
    repeat
      local fields
      if whole then
        scan, fields = '0', call('HGETALL', dir)
      else
        local piece = call('HSCAN', dir, scan, 'COUNT', PIECE)
        scan, fields = piece[1], piece[2]
      end
      for i = 1, #fields, 2 do
        if counts(fields[i], fields[i + 1]) then found[#found + 1] = fields[i] end
      end
      looked = looked + #fields / 2
    until scan == '0' or #found >= limit or #found + 2 * PIECE > math.max(limit, SMALL) or looked > most
    return { scan ~= '0' and scan or '', found }
  end

  -- Whether each live value of the scope starts with the prefix. One value that does not decides it, so a large hash is
  -- read piece by piece until there is one. The scope is too large only if as many values as one call may touch do.
  function all_start(dir, scope, prefix)
    local PIECE = 200
    local parent, name = split(dir)
    local first = parent and scope ~= '>' and call('HGET', parent, name)
    local value = first and live(first)
    if value then return sub(value, 1, #prefix) == prefix end
    if scope == '=' then
      if parent and not first then leave_document(parent) end
      return true
    end
    leave_document(dir)
    local pending = { dir }
    while #pending > 0 do
      local at, scan = table.remove(pending), '0'
      local small = call('HLEN', at) <= PIECE
      repeat
        local fields
        if small then
          fields = call('HGETALL', at)
        else
          local piece = call('HSCAN', at, scan, 'COUNT', PIECE)
          scan, fields = piece[1], piece[2]
        end
        for i = 1, #fields, 2 do
          local field = fields[i + 1]
          local value = live(field)
          if value and sub(value, 1, #prefix) ~= prefix then return false end
          if field == DIRECTORY then pending[#pending + 1] = at .. '.' .. escaped(fields[i]) end
          if not value and is_document(field) then demand_split(at .. '.' .. escaped(fields[i]), field) end
        end
        touch(#fields / 2)
      until scan == '0'
    end
    return true
  end

  -- Whether the live values of the scope are { suffix, name, value, ... }. A page that can hold one more decides it.
  function are_exactly(dir, scope, items)
    local missing = #items / 3
    if missing == 0 and scope == '>' then
      -- Below a value is nothing. Most of these checks are about the field that the call goes on to replace.
      local parent, name = split(dir)
      local field = parent and call('HGET', parent, name)
      if field and field ~= DIRECTORY and byte(field) ~= 5 then
        checked_dir, checked_name, checked_field = parent, name, field
        return true
      end
      if call('HLEN', dir) == 0 and not document_of(dir) then return true end
    end
    touch(missing)
    local wanted = {}
    for i = 1, #items, 3 do wanted[items[i] .. '\0' .. items[i + 1]] = items[i + 2] end
    local answer = read(dir, scope, missing + 1, false, {})
    for group = 2, #answer, 3 do
      local suffix, fields = answer[group], answer[group + 1]
      if suffix == '=' then
        fields = { '', fields }
      elseif type(fields) == 'string' then
        -- Any leaf is one too many where none may be.
        if #items == 0 and byte(suffix) ~= 94 then return false end
        demand_split(document_of(dir .. (byte(suffix) == 94 and '' or suffix)))
      end
      for i = 1, #fields, 2 do
        missing = missing - 1
        if wanted[suffix .. '\0' .. fields[i]] ~= fields[i + 1] then return false end
      end
    end
    if answer[1] ~= '' and missing >= 0 then error(TOO_MANY) end
    return missing == 0
  end
end

-- Changing -------------------------------------------------------------------------------------------------------

-- Functions that writing() makes, and one of recording().
local prepare, apply, find_due, sweep, publish, sum_of, sweep_record

local function writing()
  local function change(...)
    changes = changes + 1
    return call(...)
  end

  -- Calls a command with many arguments, a bounded and even number at a time.
  local function in_chunks(items, command, key)
    local CHUNK = 2000
    if key and #items > 0 and #items <= CHUNK then
      changes = changes + 1
      call(command, key, unpack(items))
      return
    end
    for first = 1, #items, CHUNK do
      local last = math.min(first + CHUNK - 1, #items)
      if key then
        change(command, key, unpack(items, first, last))
      else
        change(command, unpack(items, first, last))
      end
    end
  end

  -- What stands for a field in the index of TTLs.
  local function member(dir, name) return dir .. '\0' .. name end

  local function field_for(value, deadline)
    if deadline then return format('\2%016d', deadline) .. value end
    local first = byte(value)
    if first and first >= 1 and first <= 5 and first ~= 4 then return '\3' .. value end
    return value
  end

  -- The field of a document with another deadline, or with none.
  local function document_field(field, deadline)
    if not deadline and sub(field, 2, 17) == NO_DEADLINE then return field end
    return format('\5%016.0f', deadline or 0) .. sub(field, 18)
  end

  -- Removes the markers of directories that have become empty, from this one upwards.
  local function prune(dir)
    while call('HLEN', dir) == 0 do
      local parent, name = split(dir)
      if not parent or redis.pcall('HGET', parent, name) ~= DIRECTORY then return end
      change('HDEL', parent, name)
      dir = parent
    end
  end

  -- Finds fields that have expired, or what is to be met before the first change if the index is another key.
  function find_due(count)
    due = call('ZRANGEBYSCORE', expiries, '-inf', moment(), 'LIMIT', '0', count)
  end

  -- Removes what find_due() has found, unless the changes since then have renewed it.
  function sweep()
    local gone = {}
    for _, entry in ipairs(due) do
      if byte(entry) == 0 then
        if sweep_record(entry) then gone[#gone + 1] = entry end
      else
        local cut = find(entry, '\0', 1, true)
        local dir, name = sub(entry, 1, cut - 1), sub(entry, cut + 1)
        local field = call('HGET', dir, name)
        local deadline = field and deadline_of(field)
        if deadline and deadline <= now() then
          change('HDEL', dir, name)
          prune(dir)
          deadline = nil
        end
        if not deadline then gone[#gone + 1] = entry end
      end
    end
    in_chunks(gone, 'ZREM', expiries)
  end

  -- What is to be removed below a directory, and after how many changes that was determined.
  local function plan_below(dir)
    local plan = { dir = dir, hashes = {}, expiring = {}, changes = changes }
    local count = call('HLEN', dir)
    if count == 0 then return plan end
    if count <= most - touched then
      -- Most dicts hold plain values only, and reading the values alone is half the work.
      if is_plain(call('HVALS', dir), 1) then
        touch(count)
        plan.hashes[1] = dir
        return plan
      end
    end
    each_hash(dir, function(at, fields, plain)
      plan.hashes[#plan.hashes + 1] = at
      for i = 1, plain and 0 or #fields, 2 do
        if deadline_of(fields[i + 1]) then plan.expiring[#plan.expiring + 1] = member(at, fields[i]) end
        if is_document(fields[i + 1]) then
          plan.place, plan.document = at .. '.' .. escaped(fields[i]), fields[i + 1]
        end
      end
    end)
    return plan
  end

  local function clear_below(dir, plan)
    if not plan or plan.changes ~= changes then plan = plan_below(dir) end
    in_chunks(plan.hashes, 'UNLINK')
    in_chunks(plan.expiring, 'ZREM', expiries)
    return #plan.hashes > 0
  end

  -- Sets the markers that lead to a directory, also in place of leaves.
  local function make_directory(dir)
    if call('HLEN', dir) > 0 then return end
    local parent, name = split(dir)
    if not parent then return end
    local field = call('HGET', parent, name)
    if field == DIRECTORY then return end
    if field and deadline_of(field) then change('ZREM', expiries, member(parent, name)) end
    make_directory(parent)
    change('HSET', parent, name, DIRECTORY)
  end

  -- Stores one value or document in place of this field, which is false if there is none.
  local function put_one(dir, name, value, ttl, old, plan, is_whole)
    local renewed = number_of(ttl)
    renewed = renewed and now() + renewed
    local deadline = renewed
    if not old then
      make_directory(dir)
    elseif old == DIRECTORY then
      clear_below(dir .. '.' .. escaped(name), plan)
    elseif deadline_of(old) then
      if ttl == 'keep' and live(old) then deadline = deadline_of(old) end
      if not deadline then change('ZREM', expiries, member(dir, name)) end
    end
    if renewed then change('ZADD', expiries, format('%d', deadline), member(dir, name)) end
    change('HSET', dir, name, (is_whole and document_field or field_for)(value, deadline))
  end

  local function put(dir, ttl, items, are_whole)
    local deadline = tonumber(ttl) and now() + tonumber(ttl)
    local fresh = call('HLEN', dir) == 0
    if fresh then
      make_directory(dir)
      if not deadline and not are_whole and is_plain(items) then return in_chunks(items, 'HSET', dir) end
    end
    local fields, scores, persistent = {}, {}, {}
    for i = 1, #items, 2 do
      local name, until_then = items[i], deadline
      local old = not fresh and call('HGET', dir, name)
      if old == DIRECTORY then
        clear_below(dir .. '.' .. escaped(name))
      elseif old and deadline_of(old) then
        if ttl == 'keep' and live(old) then until_then = deadline_of(old) end
        if not until_then then persistent[#persistent + 1] = member(dir, name) end
      end
      if deadline then
        scores[#scores + 1], scores[#scores + 2] = format('%d', until_then), member(dir, name)
      end
      fields[i], fields[i + 1] = name, (are_whole and document_field or field_for)(items[i + 1], until_then)
    end
    in_chunks(persistent, 'ZREM', expiries)
    in_chunks(scores, 'ZADD', expiries)
    in_chunks(fields, 'HSET', dir)
  end

  -- The leaves under these names of a directory, expired ones too: { name, field, ... }.
  local function leaves_among(dir, names)
    local CHUNK, found = 2000, {}
    for first = 1, #names, CHUNK do
      local fields = call('HMGET', dir, unpack(names, first, math.min(first + CHUNK - 1, #names)))
      for i = 1, #fields do
        if fields[i] and fields[i] ~= DIRECTORY and byte(fields[i]) ~= 5 then
          found[#found + 1], found[#found + 2] = names[first + i - 1], fields[i]
        end
      end
    end
    return found
  end

  local function remove(dir, leaves)
    local names, expiring = {}, {}
    for i = 1, #leaves, 2 do
      names[#names + 1] = leaves[i]
      if deadline_of(leaves[i + 1]) then expiring[#expiring + 1] = member(dir, leaves[i]) end
    end
    in_chunks(names, 'HDEL', dir)
    in_chunks(expiring, 'ZREM', expiries)
    if #names > 0 then prune(dir) end
  end

  local function remove_one(dir, name, old)
    if not old or old == DIRECTORY then return end
    change('HDEL', dir, name)
    if deadline_of(old) then change('ZREM', expiries, member(dir, name)) end
    prune(dir)
  end

  local function delete(dir, scope, plan)
    local parent, name = split(dir)
    local old = parent and call('HGET', parent, name)
    -- All leaves of a document are below its place.
    if old and (scope == '*' or byte(old) == 5) then remove_one(parent, name, old) end
    if clear_below(dir, plan) and parent and redis.pcall('HGET', parent, name) == DIRECTORY then
      change('HDEL', parent, name)
      prune(parent)
    end
  end

  -- Publishes the number of a listener to the channel of its client id, if this is the name of one.
  function publish(channels, name)
    local client_id, number = match(name, '^([!-.0-~]+)/([!-~]+)$')
    if client_id and #name <= 100 then call('PUBLISH', channels .. client_id, number) end
  end

  -- Notifies the listeners that a scope names. Deletes the names.
  local function notify(dir, scope, channels, plan)
    local parent, name = split(dir)
    if scope ~= '>' and parent then
      local value, field = leaf(dir)
      if value then publish(channels, value) end
      if field and byte(field) ~= 5 then remove_one(parent, name, field) end
    end
    if scope == '=' or call('HLEN', dir) == 0 then return end
    each_hash(dir, function(_, fields)
      for i = 2, #fields, 2 do
        local value = live(fields[i])
        if value then publish(channels, value) end
      end
    end)
    delete(dir, '>', plan)
  end

  local function set_ttl(dir, leaves, ttl)
    local deadline = ttl ~= '' and now() + tonumber(ttl) or nil
    local changed, scores, persistent = {}, {}, {}
    for i = 1, #leaves, 2 do
      local name, field = leaves[i], leaves[i + 1]
      local value = live(field)
      if value or is_document(field) then
        changed[#changed + 1] = name
        changed[#changed + 1] = value and field_for(value, deadline) or document_field(field, deadline)
        if deadline then
          scores[#scores + 1], scores[#scores + 2] = format('%d', deadline), member(dir, name)
        elseif deadline_of(leaves[i + 1]) then
          persistent[#persistent + 1] = member(dir, name)
        end
      end
    end
    in_chunks(changed, 'HSET', dir)
    in_chunks(scores, 'ZADD', expiries)
    in_chunks(persistent, 'ZREM', expiries)
  end

  local function expire(dir, scope, ttl)
    local parent, name = split(dir)
    local old = parent and call('HGET', parent, name)
    if old and (scope == '*' or byte(old) == 5) then set_ttl(parent, { name, old }, ttl) end
    each_hash(dir, function(at, fields) set_ttl(at, fields, ttl) end)
  end

  -- The text of value + amount in 64 bits, or nil. Lua's numbers are doubles, so INCRBY adds large ones.
  function sum_of(value, amount)
    if not (value == '0' or (#value <= 20 and find(value, '^%-?[1-9]%d*$'))) then return nil end
    if #value < 16 and #amount < 16 then return format('%d', tonumber(value) + tonumber(amount)) end
    local scratch = session .. ':sum'
    call('SET', scratch, value)
    local fits = pcall(call, 'INCRBY', scratch, amount)
    local total = fits and call('GET', scratch) or nil
    call('DEL', scratch)
    return total
  end

  -- The value at the key of the write at this index after the writes before it.
  local function value_before(writes, index)
    others, added = others or {}, added or {}
    for i = added_upto + 1, index - 1 do
      local earlier = writes[i]
      if earlier.kind == 'a' then
        added[earlier.dir .. '.' .. escaped(earlier.name)] = i
      elseif earlier.dir then
        others[#others + 1] = i
      end
    end
    added_upto = index - 1
    local parent, name = writes[index].dir, writes[index].name
    local key = parent .. '.' .. escaped(name)
    local last = added[key] or 0
    for number = #others, 1, -1 do
      if others[number] < last then break end
      local write = writes[others[number]]
      if write.kind == 'd' or write.kind == 'w' then
        local at = write.dir == key and write.scope ~= '>'
        local above = write.scope ~= '=' and sub(key, 1, #write.dir + 1) == write.dir .. '.'
        if at or above then return nil end
      elseif write.kind == 'x' and write.dir == parent then
        for _, gone in ipairs(write.items) do
          if gone == name then return nil end
        end
      elseif write.kind == 'p' and write.dir == parent then
        for item = #write.items - 1, 1, -2 do
          if write.items[item] == name then return write.items[item + 1] end
        end
      end
    end
    if last > 0 then return writes[last].sum end
    return (value_at(parent, name))
  end

  -- Reads a directory, and those above it that are to be created with it. None of them may be in a document.
  local function read_upwards(dir)
    while dir and call('HLEN', dir) == 0 do
      local parent, name = split(dir)
      local field = parent and call('HGET', parent, name)
      if field and is_document(field) then demand_split(dir, field) end
      dir = parent
    end
  end

  -- Whether the scope of this 'w' holds anything, or may do so after the writes before it.
  local function may_name_listeners(writes, index)
    local write = writes[index]
    if write.plan and write.plan.hashes[1] or write.scope ~= '>' and leaf(write.dir) then return true end
    local space = match(write.dir, '^.*:')
    for i = 1, index - 1 do
      local earlier = writes[i]
      if (earlier.kind == 'p' or earlier.kind == 'a') and sub(earlier.dir, 1, #space) == space then return true end
    end
    return false
  end

  -- Reads the field that a write of one value replaces, and the directories that are to be created if there is none.
  local function look_at(write, dir, name)
    -- Lua hashes every string that it is given, so a long one that is only to be replaced costs more than a command.
    local is_long = write.kind == 'o' and call('HSTRLEN', dir, name) > LONG_BYTES
    local was_checked = dir == checked_dir and name == checked_name
    local field = is_long and LONG or was_checked and checked_field or call('HGET', dir, name)
    write.old = field
    if not field then read_upwards(dir) end
    return field
  end

  -- The field that is there now.
  local function current(write, dir, name)
    if changes == 0 and write.old ~= nil then return write.old end
    return call('HGET', dir, name)
  end

  -- Reads everything that a write will touch, so that every error is raised before the first change.
  function prepare(writes, index)
    local write = writes[index]
    local kind, items = write.kind, write.items
    if kind == 'z' then
      for _, hash in ipairs(write.hashes) do call('HLEN', hash[1]) end
      return true
    end
    local is_first = not has_prepared
    has_prepared = true
    if kind == 'p' or kind == 'o' then
      local count = #items / 2
      if kind == 'p' then touch(count) end
      for i = 1, kind == 'o' and #items or 0, 2 do
        touch(leaves_in(items[i + 1]))
        if count > 1 and call('HGET', write.dir, items[i]) == DIRECTORY then
          plan_below(write.dir .. '.' .. escaped(items[i]))
        end
      end
      if number_of(write.ttl) then given = given + count end
      if count == 1 then
        -- A directory gives way to the value, and is to be removed whole.
        if look_at(write, write.dir, items[1]) == DIRECTORY then
          write.plan = plan_below(write.dir .. '.' .. escaped(items[1]))
        end
      else
        read_upwards(write.dir)
      end
    elseif kind == 'a' then
      local before
      if is_first then
        local field = look_at(write, write.dir, write.name)
        before = field and live(field)
      else
        read_upwards(write.dir)
        before = value_before(writes, index)
      end
      write.sum = sum_of(before or '0', write.amount)
      if not write.sum then return false end
    elseif items then
      touch(#items)
      if kind == 'x' and #items == 1 then
        look_at(write, write.dir, items[1])
      else
        if kind == 'l' then given = given + #items end
        read_upwards(write.dir)
      end
    else
      local parent, name = split(write.dir)
      local found = parent and call('HGET', parent, name)
      if not found and parent then read_upwards(parent) end
      if write.scope ~= '=' then
        local plan = plan_below(write.dir)
        write.plan = plan
        if kind == 'w' and found and is_document(found) then demand_split(write.dir, found) end
        if kind == 'w' and plan.place then demand_split(plan.place, plan.document) end
      end
      if kind == 'w' and may_name_listeners(writes, index) then
        -- To the channel of no client: a missing permission to publish must be met before the first change.
        call('PUBLISH', write.channels, '')
      end
    end
    return true
  end

  -- Replaces a document by the hashes that its dicts become, as the client has split it.
  local function split_document(write)
    local parent, name = split(write.dir)
    if call('HGET', parent, name) ~= write.field then return end
    change('HSET', parent, name, DIRECTORY)
    if write.deadline ~= '0' then change('ZREM', expiries, member(parent, name)) end
    for _, hash in ipairs(write.hashes) do
      local dir, items, scores = hash[1], hash[2], {}
      for i = 1, write.deadline ~= '0' and #items or 0, 2 do
        if items[i + 1] ~= DIRECTORY then
          scores[#scores + 1], scores[#scores + 2] = write.deadline, member(dir, items[i])
        end
      end
      in_chunks(items, 'HSET', dir)
      in_chunks(scores, 'ZADD', expiries)
    end
  end

  function apply(write)
    local kind, items = write.kind, write.items
    if kind == 'p' or kind == 'o' then
      local is_whole = kind == 'o'
      if #items == 2 then
        put_one(write.dir, items[1], items[2], write.ttl, current(write, write.dir, items[1]), write.plan, is_whole)
      else
        put(write.dir, write.ttl, items, is_whole)
      end
    elseif kind == 'a' then
      put_one(write.dir, write.name, write.sum, 'keep', current(write, write.dir, write.name))
    elseif kind == 'z' then
      split_document(write)
    elseif kind == 'd' then
      delete(write.dir, write.scope, write.plan)
    elseif kind == 'w' then
      notify(write.dir, write.scope, write.channels, write.plan)
    elseif kind == 'x' then
      if #items == 1 then
        local old = current(write, write.dir, items[1])
        if old and byte(old) ~= 5 then remove_one(write.dir, items[1], old) end
      else
        remove(write.dir, leaves_among(write.dir, items))
      end
    elseif kind == 'l' then
      set_ttl(write.dir, leaves_among(write.dir, items), write.ttl)
    else
      expire(write.dir, write.scope, write.ttl)
    end
  end
end
