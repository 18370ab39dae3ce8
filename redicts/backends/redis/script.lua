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
local TOO_MANY = {}

-- The state of one call, which begin() sets. It is all that changes in here, so a call that ends by an error leaves
-- nothing to the next one.
local call, args, expiries, session
-- The clock: the millisecond since the epoch as a number and as text, once it was read.
local clock, clock_text
-- How many fields this call may touch, and how many it has.
local most, touched
-- The number of changes of the tree. What was read when it was the same is still so.
local changes
-- The number of TTLs that were set: that many more fields may have expired at the next sweep.
local given
-- What the index of TTLs says to be removed, if the call sweeps.
local due
-- The indices of the writes so far that are no Adds, and by key that of the last Add: most Adds follow Adds.
local others, added
-- The same of records: of removals, and by record that of the last Put or Add, up to a write.
local removals, latest, latest_upto
-- Whether a write of values was prepared.
local has_prepared
-- Of record spaces: the one that was asked last, the last record that was, what was found, and the spaces with changes.
local record_set, last_set, last_path, last_found, changed_sets
-- Where a check has found no record below this path.
local empty_in, empty_below

local function begin(given_args)
  if not byte then
    byte, sub, find, match, gsub = string.byte, string.sub, string.find, string.match, string.gsub
    format = string.format
  end
  call, args = redis.call, given_args
  expiries, session, most = args[1], args[2], tonumber(args[4])
  clock, clock_text, touched, changes, given, due = nil, nil, 0, 0, 0, nil
  others, added, has_prepared, removals, latest, latest_upto = nil, nil, false, nil, nil, 0
  record_set, last_set, last_path, last_found, changed_sets, empty_in = nil, nil, nil, nil, nil, nil
end

local function now()
  if not clock then
    local time = call('TIME')
    clock_text = time[1] .. sub('00000' .. time[2], -6, -4)
    clock = tonumber(clock_text)
  end
  return clock
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
  return byte(field) == 2 and tonumber(sub(field, 2, 17)) or nil
end

-- The value in a field, or nil for a directory and for a value that has expired.
local function live(field)
  local first = byte(field)
  if not first or first > 3 or first == 0 then return field end
  if first == 3 then return sub(field, 2) end
  if first == 2 and tonumber(sub(field, 2, 17)) > now() then return sub(field, 18) end
  return nil
end

-- Whether { name, field, ... }, or with step 1 { field, ... }, has neither directories nor TTLs nor escapes.
local function is_plain(items, step)
  step = step or 2
  for i = step, #items, step do
    local first = byte(items[i])
    if first and first <= 3 and first >= 1 then return false end
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
  -- Adds the live values of a hash to an answer: suffix, { name, value, ... }, { name, remaining TTL, ... }.
  local function emit(answer, suffix, fields, plain, with_ttls)
    local kept, ttls = fields, ''
    if not plain then
      kept = {}
      if with_ttls then ttls = {} end
      for i = 1, #fields, 2 do
        local value = live(fields[i + 1])
        if value then
          kept[#kept + 1], kept[#kept + 2] = fields[i], value
          local deadline = with_ttls and deadline_of(fields[i + 1])
          if deadline then ttls[#ttls + 1], ttls[#ttls + 2] = fields[i], deadline - now() end
        end
      end
    end
    local size = #answer
    if #kept > 0 then answer[size + 1], answer[size + 2], answer[size + 3] = suffix, kept, ttls end
    return #kept / 2
  end

  -- The first element of an answer is its cursor: suffix and scan position of every hash that is still to be read,
  -- separated by NUL. A small hash is read whole, a large one piece by piece.
  function read(dir, scope, limit, with_ttls, pending)
    local PIECE, SMALL = 200, 1000
    local answer = { '' }
    if #pending == 0 then
      if scope ~= '>' then
        local value, field = leaf(dir)
        if value then return answer_of(value, field, with_ttls) end
        -- Only the marker of a directory leads further down.
        if scope == '=' or field ~= DIRECTORY and split(dir) then return answer end
      end
      if not limit then
        each_hash(dir, function(at, fields, plain) emit(answer, sub(at, #dir + 1), fields, plain, with_ttls) end)
        return answer
      end
      pending = { '', '0' }
    end
    local room, found, looked = math.max(limit, SMALL), 0, 0
    while #pending > 0 and found < limit and looked < most do
      local suffix, scan = pending[#pending - 1], pending[#pending]
      local at = dir .. suffix
      local size, fields = call('HLEN', at), nil
      if found > 0 and found + math.min(size, 2 * PIECE) > room then break end
      if scan == '0' and size <= room - found then
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
      found = found + emit(answer, suffix, fields, plain, with_ttls)
    end
    if #pending > 0 then answer[1] = table.concat(pending, '\0') end
    return answer
  end

  -- Returns { cursor, { name, ... } }. A name counts if a live value is at it or below. If nothing expired, all do.
  function names(dir, limit, scan)
    local PIECE, SMALL = 200, 1000
    now()
    local due = #call('ZRANGEBYSCORE', expiries, '-inf', clock_text, 'LIMIT', '0', '1') > 0
    local size = call('HLEN', dir)
    local whole = not limit or scan == '0' and size <= math.max(limit, SMALL)
    if not limit then touch(size) end
    if whole and not due then return { '', call('HKEYS', dir) } end
    local found, looked = {}, 0
    local function counts(name, field)
      if not due or live(field) then return true end
      return field == DIRECTORY and each_hash(dir .. '.' .. escaped(name), function(_, fields)
        for i = 2, #fields, 2 do
          if live(fields[i]) then return true end
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
    if scope ~= '>' then
      local value = leaf(dir)
      if value or scope == '=' then return not value or sub(value, 1, #prefix) == prefix end
    end
    local pending = { dir }
    while #pending > 0 do
      local at, scan = table.remove(pending), '0'
      local size = call('HLEN', at)
      local small = size <= PIECE
      while size > 0 do
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
        end
        touch(#fields / 2)
        if scan == '0' then break end
      end
    end
    return true
  end

  -- Whether the live values of the scope are { suffix, name, value, ... }. A page that can hold one more decides it.
  function are_exactly(dir, scope, items)
    local wanted, missing = {}, #items / 3
    if missing == 0 and scope == '>' and call('HLEN', dir) == 0 then return true end
    touch(missing)
    for i = 1, #items, 3 do wanted[items[i] .. '\0' .. items[i + 1]] = items[i + 2] end
    local answer = read(dir, scope, missing + 1, false, {})
    for group = 2, #answer, 3 do
      local suffix, fields = answer[group], answer[group + 1]
      if suffix == '=' then fields = { '', fields } end
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
    if first and first >= 1 and first <= 3 then return '\3' .. value end
    return value
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
    now()
    due = call('ZRANGEBYSCORE', expiries, '-inf', clock_text, 'LIMIT', '0', count)
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
        if deadline and deadline <= clock then
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
    local plan = { hashes = {}, expiring = {}, changes = changes }
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
        if byte(fields[i + 1]) == 2 then plan.expiring[#plan.expiring + 1] = member(at, fields[i]) end
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

  -- Stores one value in place of this field, which is false if there is none.
  local function put_one(dir, name, value, ttl, old, plan)
    local renewed = tonumber(ttl) and now() + tonumber(ttl)
    local deadline = renewed
    if not old then
      make_directory(dir)
    elseif old == DIRECTORY then
      clear_below(dir .. '.' .. escaped(name), plan)
    elseif byte(old) == 2 then
      if ttl == 'keep' and live(old) then deadline = deadline_of(old) end
      if not deadline then change('ZREM', expiries, member(dir, name)) end
    end
    if renewed then change('ZADD', expiries, format('%d', deadline), member(dir, name)) end
    change('HSET', dir, name, field_for(value, deadline))
  end

  local function put(dir, ttl, items)
    local deadline = tonumber(ttl) and now() + tonumber(ttl)
    local fresh = call('HLEN', dir) == 0
    if fresh then
      make_directory(dir)
      if not deadline and is_plain(items) then return in_chunks(items, 'HSET', dir) end
    end
    local fields, scores, persistent = {}, {}, {}
    for i = 1, #items, 2 do
      local name, until_then = items[i], deadline
      local old = not fresh and call('HGET', dir, name)
      if old == DIRECTORY then
        clear_below(dir .. '.' .. escaped(name))
      elseif old and byte(old) == 2 then
        if ttl == 'keep' and live(old) then until_then = deadline_of(old) end
        if not until_then then persistent[#persistent + 1] = member(dir, name) end
      end
      if deadline then
        scores[#scores + 1], scores[#scores + 2] = format('%d', until_then), member(dir, name)
      end
      fields[i], fields[i + 1] = name, field_for(items[i + 1], until_then)
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
        if fields[i] and fields[i] ~= DIRECTORY then
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
    if byte(old) == 2 then change('ZREM', expiries, member(dir, name)) end
    prune(dir)
  end

  local function delete(dir, scope, plan)
    local parent, name = split(dir)
    if scope == '*' and parent then remove_one(parent, name, call('HGET', parent, name)) end
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
      remove_one(parent, name, field)
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
      local name, value = leaves[i], live(leaves[i + 1])
      if value then
        changed[#changed + 1], changed[#changed + 2] = name, field_for(value, deadline)
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
    if scope == '*' and parent then set_ttl(parent, leaves_among(parent, { name }), ttl) end
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
    local key = writes[index].dir
    local parent, name = split(key)
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
    return (leaf(key))
  end

  -- Reads a directory, and those above it that are to be created with it.
  local function read_upwards(dir)
    while dir and call('HLEN', dir) == 0 do dir = split(dir) end
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
    local field = call('HGET', dir, name)
    write.old = field
    if not field then
      if call('HLEN', dir) == 0 then read_upwards(split(dir)) end
    end
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
    local is_first = not has_prepared
    has_prepared = true
    if others and kind ~= 'a' then others[#others + 1] = index end
    if kind == 'p' then
      local count = #items / 2
      touch(count)
      if tonumber(write.ttl) then given = given + count end
      if count == 1 then
        -- A directory gives way to the value, and is to be removed whole.
        if look_at(write, write.dir, items[1]) == DIRECTORY then
          write.plan = plan_below(write.dir .. '.' .. escaped(items[1]))
        end
      else
        read_upwards(write.dir)
      end
    elseif kind == 'a' then
      local parent, name = split(write.dir)
      local before
      if is_first then
        local field = look_at(write, parent, name)
        before = field and live(field)
      else
        read_upwards(parent)
        before = value_before(writes, index)
      end
      write.sum = sum_of(before or '0', write.amount)
      if not write.sum then return false end
      if added then added[write.dir] = index end
    elseif items then
      touch(#items)
      if kind == 'x' and #items == 1 then
        look_at(write, write.dir, items[1])
      else
        if kind == 'l' then given = given + #items end
        call('HLEN', write.dir)
      end
    else
      if write.scope ~= '>' then leaf(write.dir) end
      if write.scope ~= '=' then write.plan = plan_below(write.dir) end
      if kind == 'w' and may_name_listeners(writes, index) then
        -- To the channel of no client: a missing permission to publish must be met before the first change.
        call('PUBLISH', write.channels, '')
      end
    end
    return true
  end

  function apply(write)
    local kind, items = write.kind, write.items
    if kind == 'p' then
      if #items == 2 then
        put_one(write.dir, items[1], items[2], write.ttl, current(write, write.dir, items[1]), write.plan)
      else
        put(write.dir, write.ttl, items)
      end
    elseif kind == 'a' then
      local parent, name = split(write.dir)
      put_one(parent, name, write.sum, 'keep', current(write, parent, name))
    elseif kind == 'd' then
      delete(write.dir, write.scope, write.plan)
    elseif kind == 'w' then
      notify(write.dir, write.scope, write.channels, write.plan)
    elseif kind == 'x' then
      if #items == 1 then
        remove_one(write.dir, items[1], current(write, write.dir, items[1]))
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
